"""Workers of a work queue: each gets a key, reconciles the object of that key, and requeues or forgets the key as the result
says.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic

import structlog

from userstorage_operator.runtime.fair_queue import K
from userstorage_operator.runtime.tracing import NOOP_TRACER, Tracer
from userstorage_operator.runtime.workqueue import WorkQueue

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a reconcile: whether it succeeded, and when the key is reconciled next."""

    reason: str = "success"
    """`success`, or the reason of the failure in PascalCase."""
    retry: bool = False
    """Whether the key is added to the queue again after its backoff."""
    retry_after: float = 0.0
    """Minimum backoff in seconds, such as the `Retry-After` of the API server."""
    requeue_after: float | None = None
    """Seconds until the next reconcile, if `retry` is false. None means that only an event adds the key again."""
    error: str = ""
    """The message of the failure, for people; empty if there is none."""
    action: str = ""
    """The write to the API server that failed, such as `create Pod`; empty if unknown."""
    exception: BaseException | None = None
    """The exception that the reconcile raised, if the failure is a bug of the operator; else None. It is logged as an error
    with its traceback.
    """
    routine: bool = False
    """Whether the failure belongs to normal operation, such as a conflict. It is logged at debug level only."""


class WorkerPool(Generic[K]):
    """The workers of one WorkQueue. Each running call of `work` is a worker."""

    def __init__(
        self,
        queue: WorkQueue[K],
        reconcile: Callable[[K, int], Awaitable[Result]],
        on_reconciled: Callable[[Result, float], None],
        tracer: Tracer = NOOP_TRACER,
        kind: str = "",
    ) -> None:
        """`reconcile(key, failures)` gets the number of consecutive failures of the key so far. `on_reconciled(result,
        seconds)` is called after each reconcile with its duration. `kind`, the Kubernetes kind of the reconciled objects,
        becomes part of the span's name.
        """
        self._queue = queue
        self._reconcile = reconcile
        self._on_reconciled = on_reconciled
        self._tracer = tracer
        self._span_name = f"reconcile {kind}"
        self._logged_failures: dict[K, tuple[str, str]] = {}
        self._last_progress = time.monotonic()
        self._running: dict[K, float] = {}
        """Key -> time at which its running reconcile started, oldest first."""

    def stuck_for(self) -> float:
        """Return for how many seconds the workers have made no progress. This is the longer of two times: the duration of the
        longest running reconcile, and the time for which keys have waited in the queue without any reconcile finishing.
        """
        now = time.monotonic()
        longest = now - next(iter(self._running.values()), now)
        return max(longest, min(now - self._last_progress, self._queue.oldest_wait()))

    async def work(self) -> None:
        """Run one worker until cancelled. Called n times concurrently, it reconciles up to n keys at the same time."""
        while True:
            key = await self._queue.get()
            self._running[key] = time.monotonic()
            structlog.contextvars.bind_contextvars(reconcile_id=secrets.token_hex(6))
            try:
                with self._tracer.reconcile(self._span_name):
                    await self._process(key)
            finally:
                structlog.contextvars.clear_contextvars()  # also the fields that the reconcile has bound for its key
                self._queue.done(key)
                del self._running[key]
                self._last_progress = time.monotonic()
            await asyncio.sleep(0)  # a reconcile with nothing to do never yields: thousands in a row would block the event loop

    async def _process(self, key: K) -> None:
        started = time.monotonic()
        try:
            result = await self._reconcile(key, self._queue.num_requeues(key))
        except Exception as error:  # noqa: BLE001  # one bad key must not stop a worker
            result = Result(reason="InternalError", retry=True, error=f"{type(error).__name__}: {error}", exception=error)
        if result.retry and self._queue.is_shut_down:
            return  # a process that resigns may not write: no failure of the object, and none for the next leader
        duration = time.monotonic() - started
        self._on_reconciled(result, duration)
        self._tracer.reconciled(result.reason, result.error, result.action)
        attempts = self._queue.num_requeues(key) + 1
        delay = self._queue.add_rate_limited(key, result.retry_after) if result.retry else None
        self._log_result(key, result, attempts, delay, duration)
        if result.retry:
            return
        self._queue.forget(key)
        if result.requeue_after is not None:
            self._queue.add_after(key, result.requeue_after)

    def _log_result(self, key: K, result: Result, attempts: int, delay: float | None, duration: float) -> None:
        """Log a new failure, and the recovery from it. A repeated or routine failure is logged at debug level. `delay` is the
        seconds until the retry; None if there is no retry.
        """
        if not result.error:
            if self._logged_failures.pop(key, None) is not None:
                log.info("reconcile_recovered")
            return
        failure = (result.reason, result.error)
        level = logging.WARNING if result.exception is None else logging.ERROR
        if result.routine or self._logged_failures.get(key) == failure:
            level = logging.DEBUG
        else:
            self._logged_failures[key] = failure
        fields: dict[str, Any] = {"error_kind": result.reason, "error": result.error, "attempts": attempts}
        if result.action:
            fields["action"] = result.action
        if delay is not None:
            fields["next_retry"] = (datetime.now(UTC) + timedelta(seconds=delay)).isoformat(timespec="seconds")
        log.log(level, "reconcile_failed", **fields, duration_ms=round(duration * 1000, 1), exc_info=result.exception)
