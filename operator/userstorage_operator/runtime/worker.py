"""Workers: take a key, have it reconciled, and do with it what the result says."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic

import structlog

from userstorage_operator.runtime.tracing import NOOP_TRACER, Tracer
from userstorage_operator.runtime.workqueue import K, WorkQueue

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a pass came to."""

    reason: str = "success"
    """A word for the metrics: success, or the reason of the failure (PascalCase)."""
    retry: bool = False
    """Try again after a growing pause."""
    retry_after: float = 0.0
    """Seconds that the API server asked to be left in peace."""
    requeue_after: float | None = None
    """Seconds after which to look again although nothing failed."""
    error: str = ""
    """What failed, for people; empty where nothing did."""
    action: str = ""
    """What was being done when it failed, where that is known."""
    exception: BaseException | None = None
    """The exception, where the failure is a fault of the program: its log line is an error, with the traceback."""
    routine: bool = False
    """A failure that is part of the normal course: nobody but a developer wants to read of it."""


class WorkerPool(Generic[K]):
    """The workers on one queue."""

    def __init__(
        self,
        queue: WorkQueue[K],
        reconcile: Callable[[K, int], Awaitable[Result]],
        on_reconciled: Callable[[Result, float], None],
        tracer: Tracer = NOOP_TRACER,
        kind: str = "",
    ) -> None:
        """`reconcile(key, failures)` gets the number of failures in a row before this pass; `passed(result, seconds)`
        is told of the pass. `what` the keys stand for is in the name of its span.
        """
        self._queue = queue
        self._reconcile = reconcile
        self._on_reconciled = on_reconciled
        self._tracer = tracer
        self._span_name = f"reconcile {kind}"
        self._logged_failures: dict[K, tuple[str, str]] = {}
        self._last_progress = time.monotonic()
        self._running: dict[K, float] = {}
        """When the passes that have not ended began, the oldest first."""

    def stuck_for(self) -> float:
        """Seconds for which one pass has gone on, or for which a key has waited and no pass has ended."""
        now = time.monotonic()
        longest = now - next(iter(self._running.values()), now)
        return max(longest, min(now - self._last_progress, self._queue.oldest_wait()))

    async def work(self) -> None:
        """One worker, until cancelled. Run as many side by side as passes may be under way."""
        while True:
            key = await self._queue.get()
            self._running[key] = time.monotonic()
            structlog.contextvars.bind_contextvars(reconcile_id=secrets.token_hex(6))
            try:
                with self._tracer.reconcile(self._span_name):
                    await self._process(key)
            finally:
                structlog.contextvars.clear_contextvars()  # with what the pass has bound: the next is about another key
                self._queue.done(key)
                del self._running[key]
                self._last_progress = time.monotonic()
            await asyncio.sleep(0)  # a pass that finds nothing to do never waits: thousands in a row would hold the loop

    async def _process(self, key: K) -> None:
        started = time.monotonic()
        try:
            result = await self._reconcile(key, self._queue.num_requeues(key))
        except Exception as fault:  # noqa: BLE001  # the pool's last line: one poisoned key must not end a worker
            result = Result(reason="InternalError", retry=True, error=f"{type(fault).__name__}: {fault}", exception=fault)
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
        """Log a failure once, and its end; repetitions, and what is routine, for developers only."""
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
