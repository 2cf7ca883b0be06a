"""The operator in this process, on a loop and thread of its own, and what its own observers were told."""

import asyncio
import contextlib
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from userstorage_operator import app
from userstorage_operator.config import Config
from userstorage_operator.object_metrics import LABEL_VALUES
from userstorage_operator.runtime import logs
from userstorage_operator.runtime.metrics import Metrics
from userstorage_operator.runtime.worker import Result

TLS_CLOSE_SECONDS = 0.25
"""Seconds that aiohttp's documentation asks for between closing a session and closing its loop."""
WRITES = frozenset({"create", "patch", "delete"})
INTERNAL_ERROR_OUTCOMES = ("InternalError",)
"""Outcomes of a pass that met a fault of the operator: told in the status, or caught by the worker pool."""


class RecordedMetrics(Metrics):
    """The operator's metrics, and each pass and request besides."""

    def __init__(self) -> None:
        super().__init__("test", LABEL_VALUES)
        self.outcomes: Counter[str] = Counter()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.is_alive: Callable[[], bool] = lambda: False

    def reconciled(self, result: Result, seconds: float) -> None:
        self.outcomes[result.outcome] += 1
        super().reconciled(result, seconds)

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        self.requests[verb, resource] += 1
        super().requested(verb, resource, code, seconds)

    def reconciles(self) -> int:
        """Passes so far."""
        return self.outcomes.total()

    def writes(self) -> int:
        """Writes so far, refused ones included."""
        return sum(count for (verb, _), count in list(self.requests.items()) if verb in WRITES)

    def internal_errors(self) -> int:
        """Passes that met a fault of the operator itself."""
        return sum(self.outcomes[outcome] for outcome in INTERNAL_ERROR_OUTCOMES)


@contextlib.contextmanager
def serving(config: Config) -> Iterator[RecordedMetrics]:
    """A running operator. On a thread of its own: when kopf ends, it ends every task of its loop that is younger than
    itself, those of a test included.
    """
    set_leader = logs.configure("debug", json_format=True, stream=sys.stdout).set_leader
    observed, stop, loops = RecordedMetrics(), asyncio.Event(), list[asyncio.AbstractEventLoop]()

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await app.run(config, stop, set_leader)
        await asyncio.sleep(TLS_CLOSE_SECONDS)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(app, "Metrics", lambda *_: observed)
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        observed.is_alive = thread.is_alive
        thread.start()
        try:
            yield observed
            alive = thread.is_alive()
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join(timeout=60)
    assert alive, "the operator ended by itself"
    assert not thread.is_alive()
