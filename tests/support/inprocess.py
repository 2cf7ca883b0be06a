"""The operator in this process, on its own event loop and thread, and its metrics."""

import asyncio
import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from support.kubectl import PATIENCE
from support.live import Live
from support.tls import until_connections_closed
from userstorage_operator import app
from userstorage_operator.config import Config
from userstorage_operator.informers import sweep
from userstorage_operator.object_metrics import LABEL_VALUES
from userstorage_operator.runtime import logs
from userstorage_operator.runtime.metrics import Metrics
from userstorage_operator.runtime.worker import Result

WRITES = frozenset({"create", "patch", "delete"})
INTERNAL_ERROR_OUTCOMES = ("InternalError",)
"""Outcomes of a reconcile that hit a bug of the operator: reported in the status, or caught by the worker pool."""


class RecordedMetrics(Metrics):
    """The operator's metrics, with counters of every reconcile outcome and API request."""

    def __init__(self) -> None:
        super().__init__("test", LABEL_VALUES)
        self.outcomes: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.is_alive: Callable[[], bool] = lambda: False

    def reconciled(self, result: Result, seconds: float) -> None:
        self.outcomes[result.reason] += 1
        super().reconciled(result, seconds)

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        self.requests[verb, resource] += 1
        super().requested(verb, resource, code, seconds)

    def reconciles(self) -> int:
        """Return the number of reconciles so far."""
        return self.outcomes.total()

    def write_requests(self) -> Counter[tuple[str, str]]:
        """Return the number of write requests so far by (verb, resource), including refused ones."""
        return Counter({request: count for request, count in list(self.requests.items()) if request[0] in WRITES})

    def writes(self) -> int:
        """Return the number of write requests so far, including refused ones."""
        return self.write_requests().total()

    def internal_errors(self) -> int:
        """Return the number of reconciles that hit a bug of the operator."""
        return sum(self.outcomes[outcome] for outcome in INTERNAL_ERROR_OUTCOMES)


async def assert_silent(sweeping: RecordedMetrics, live: Live) -> None:
    """Assert that a sweeping operator, once it has written what was due, writes nothing in five more reconciles."""

    async def written_during_reconciles() -> Counter[tuple[str, str]]:
        before, reconciles = sweeping.write_requests(), sweeping.reconciles()

        async def has_reconciled() -> bool:
            return sweeping.reconciles() >= reconciles + 5

        await live.until(has_reconciled)
        return sweeping.write_requests() - before

    async def has_written_what_was_due() -> bool:
        return await written_during_reconciles() == Counter()

    await live.until(has_written_what_was_due)  # Events are sent later than the status, and a claim may still be being bound
    assert await written_during_reconciles() == Counter()


@contextlib.contextmanager
def in_thread(run: Callable[[asyncio.Event], Awaitable[None]]) -> Iterator[threading.Thread]:
    """Run a program on its own event loop and thread, until the block is left: then the event that it gets is set."""
    stop, loops = asyncio.Event(), list[asyncio.AbstractEventLoop]()

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        await run(stop)
        await until_connections_closed()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        yield thread
        alive = thread.is_alive()
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(timeout=PATIENCE)
    assert alive, "the program stopped before the test's end"
    assert not thread.is_alive()


@contextlib.contextmanager
def serving(config: Config) -> Iterator[RecordedMetrics]:
    """Run an operator on its own thread and return its metrics.

    It needs its own loop: when kopf ends, it cancels every task of its loop that started after it, also those of a test.
    """
    set_leader = logs.configure("debug", json_format=True, stream=sys.stdout).set_leader
    observed = RecordedMetrics()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(app, "Metrics", lambda *_: observed)
        patched.setattr(sweep, "_TURNS", 1)  # each sweep reconciles all, so some sweeps show that nothing is written
        with in_thread(lambda stop: app.run(config, stop, set_leader)) as thread:
            observed.is_alive = thread.is_alive
            yield observed
