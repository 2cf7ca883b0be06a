"""Records the condition reasons that the API server showed during a test: the proof of `@pytest.mark.produces("Type/Reason", …)`.

For a reason that is a failure, the operator's log, its metrics and, unless the reason is in `LOG_ONLY`, an Event must report
the same message.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.kubectl import PATIENCE
from support.logschema import check_line
from support.tls import until_connections_closed
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.reasons import REASONS
from userstorage_operator.api.resources import EVENTS, USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.cached_object import ObjectKey
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.object_metrics import ObjectMetrics
from userstorage_operator.runtime.metrics import Metrics
from userstorage_operator.status.events import is_failure, note_of

_LATE = PATIENCE
"""Seconds by which watch, log or Event may lag behind the response that the test itself has seen."""
KNOWN = frozenset(f"{condition}/{reason}" for condition, reasons in REASONS.items() for reason in reasons)


Message = tuple[str, str]
"""The name of an object and a condition's message."""
LOG_ONLY = frozenset({"APIUnavailable", "NamespaceTerminating"})
"""Failures without an Event: the API server or namespace that would store it is what fails."""


class ReasonRecorder:
    """Watches the UserStorages of one namespace in a thread, so that no short-lived condition is missed."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._shown: set[str] = set()
        self._messages: dict[str, set[Message]] = {}
        self._events: set[tuple[str, str, str]] = set()
        self._log = LogCapture(namespace)
        self._metrics = MetricCapture()
        self._watching = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done = asyncio.Event()

    def start(self, kubeconfig: Path) -> None:
        """Start the watch, and return once it misses no later change."""
        self._log.start()
        self._metrics.start()
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("KUBECONFIG", str(kubeconfig))
            self._thread.start()
            assert self._watching.wait(timeout=PATIENCE), "the watch of the recorder did not start"

    def stop(self) -> None:
        """Stop the watch."""
        self._log.stop()
        self._metrics.stop()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(timeout=PATIENCE)
        assert not self._thread.is_alive()

    def check(self, declared: frozenset[str]) -> None:
        """Fail if a declared reason was not shown, if a shown reason is not in REASONS, or if its reports disagree."""
        wait_for(lambda: declared <= self._shown)
        assert declared <= self._shown, f"not produced: {sorted(declared - self._shown)}; seen: {sorted(self._shown)}"
        assert self._shown <= KNOWN, f"not in the table of reasons: {sorted(self._shown - KNOWN)}"
        for named in sorted(declared):
            self._check_reported(named)

    def _check_reported(self, named: str) -> None:
        """Fail unless log, Event and metrics report a failure with the condition's message, for at least one object."""
        condition_type, reason = named.split("/")
        if is_failure(condition_type, reason) or reason in LOG_ONLY:
            assert reason in self._metrics.reasons, f"{named}: the metrics have only {sorted(self._metrics.reasons)}"
        if is_failure(condition_type, reason):
            wait_for(lambda: self._is_reported(condition_type, reason))
            reports = f"conditions {self._messages[named]}, log {self._log.lines()}, events {self._events}"
            assert self._is_reported(condition_type, reason), f"{named}: reports disagree: {reports}"
        elif reason in LOG_ONLY:
            logged = {(line["name"], line["error"]) for line in self._log.lines() if line.get("error_kind") == reason}
            assert self._messages[named] & logged, f"{named}: the log has only {self._log.lines()}"

    def _is_reported(self, condition_type: str, reason: str) -> bool:
        """Whether a log line and an Event report the condition.

        Conditions with the same message share one line and one Event, which have the reason of the first condition.
        """
        for line in self._log.lines():
            if line["event"] != "condition_changed" or (line["name"], line["reason"], line["message"]) not in self._events:
                continue
            first, *further = [flip.partition("=")[0] for flip in line["conditions"]]
            matches = (condition_type == first and line["reason"] == reason) or condition_type in further
            if matches and (line["name"], line["message"]) in self._messages[f"{condition_type}/{reason}"]:
                return True
        return False

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        client = KubeClient(await login(), Metrics("test"))
        watches = [asyncio.create_task(self._watch(client)), asyncio.create_task(self._watch_events(client))]
        await self._done.wait()
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        await client.close()
        await until_connections_closed()

    async def _watch(self, client: KubeClient) -> None:
        objects, version = await client.list_all(USER_STORAGES, self._namespace)
        for raw in objects:
            self._note(raw)
        self._watching.set()
        while True:
            # A test may make the API server unavailable: the watch resumes from the last version.
            with contextlib.suppress(ClusterError):
                async for event in client.watch(USER_STORAGES, self._namespace, "", version):
                    assert event["type"] != "ERROR", event
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._note(event["object"])
            await asyncio.sleep(0.1)

    def _note(self, raw: Unstructured) -> None:
        for entry in raw.get("status", {}).get("conditions", ()):
            named = f"{entry['type']}/{entry['reason']}"
            self._messages.setdefault(named, set()).add((raw["metadata"]["name"], note_of(entry["message"])))
            self._shown.add(named)

    async def _watch_events(self, client: KubeClient) -> None:
        while True:
            with contextlib.suppress(ClusterError):
                events, _ = await client.list_all(EVENTS, self._namespace)
                self._events = {(event["regarding"]["name"], event["reason"], event["note"]) for event in events}
            await asyncio.sleep(0.2)


class MetricCapture:
    """The reasons in `userstorage_condition_reasons` of an operator in this process.

    They are collected after each change of an object, since a short-lived reason may be gone before the next scrape.
    """

    def __init__(self) -> None:
        self.reasons: set[str] = set()
        self._patched = pytest.MonkeyPatch()

    def start(self) -> None:
        """Start collecting, for operators that are started from now on."""
        original = ObjectMetrics._on_event

        def on_event(metrics: ObjectMetrics, key: ObjectKey, raw: Unstructured | None) -> None:
            original(metrics, key, raw)
            metrics.collect()
            [family] = metrics._metrics.gauges.condition_reasons.collect()
            self.reasons |= {sample.labels["reason"] for sample in family.samples if sample.value}

        self._patched.setattr(ObjectMetrics, "_on_event", on_event)

    def stop(self) -> None:
        """Stop collecting."""
        self._patched.undo()


class LogCapture(logging.Handler):
    """The log lines of an operator in this process about one namespace, as its own handler formats them."""

    def __init__(self, namespace: str) -> None:
        super().__init__()
        self._namespace = namespace
        self._written: list[str] = []

    def start(self) -> None:
        """Start capturing."""
        logging.getLogger("userstorage_operator").addHandler(self)

    def stop(self) -> None:
        """Stop capturing."""
        logging.getLogger("userstorage_operator").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Store the formatted record."""
        self._written.append(logging.getLogger().handlers[0].format(record))

    def lines(self) -> list[Unstructured]:
        """Return all lines so far. Fails if a line does not follow the log schema."""
        lines = [check_line(text) for text in list(self._written)]
        return [line for line in lines if line.get("namespace") == self._namespace]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true, at most `_LATE` seconds; do not fail."""
    deadline = time.monotonic() + _LATE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def declared_by(item: pytest.Item) -> frozenset[str]:
    """Return the reasons in a test's `produces` marks."""
    return frozenset(name for mark in item.iter_markers("produces") for name in mark.args)


@contextlib.contextmanager
def recording(kubeconfig: Path, namespace: str) -> Iterator[ReasonRecorder]:
    """Run a recorder for the namespace."""
    recorder = ReasonRecorder(namespace)
    recorder.start(kubeconfig)
    try:
        yield recorder
    finally:
        recorder.stop()
