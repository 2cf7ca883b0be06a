"""Log lines: one format for all loggers and all values, and no secrets."""

import asyncio
import io
import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from support import identities
from support.logschema import ALWAYS, check_line
from userstorage_operator.observed import backoff
from userstorage_operator.runtime import logs
from userstorage_operator.runtime.logs import Logs
from userstorage_operator.runtime.redaction import TEXT_MAX, clean_text
from userstorage_operator.runtime.worker import Result, WorkerPool
from userstorage_operator.runtime.workqueue import WorkQueue
from userstorage_operator.text import REDACTED

log = structlog.get_logger("userstorage_operator.somewhere")
FORMS = pytest.mark.parametrize("json_format", [True, False], ids=["json", "console"])
CREDENTIAL = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2lnbmF0dXJl"
CANARIES = (CREDENTIAL, "s3cret", "c2lnbmF0dXJl", "dXNlcjpwYXNz", "hunter2")
UNTRUSTED = st.text(st.characters(codec=None, categories=None)) | st.sampled_from(
    ["\n", "\x1b[2J", "\u2028", "\u0085", "\u202e", "\ud800", "a" * 4096, "\x00"]
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Restore the global state that `configure` changes."""
    root, ours, hooks = logging.getLogger(), logging.getLogger("userstorage_operator"), (sys.excepthook, sys.unraisablehook)
    before, thread_hook = (root.handlers, root.level, ours.level, logging.raiseExceptions), threading.excepthook
    yield
    root.handlers, logging.raiseExceptions = before[0], before[3]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    (sys.excepthook, sys.unraisablehook), threading.excepthook = hooks, thread_hook
    logging.captureWarnings(False)


class Written:
    """Captures the log."""

    def __init__(self, json_format: bool = True, level: str = "info") -> None:
        self._stream = io.StringIO()
        self.logs: Logs = logs.configure(level, json_format=json_format, stream=self._stream)

    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [check_line(line) for line in self.text().splitlines()]


def fail(error: Exception) -> None:
    raise error


def test_line_has_the_documented_fields_first() -> None:
    written = Written()
    log.info("created", action="create Pod", pod_name="user-storage-alice")
    [line] = written.lines()
    assert tuple(line) == (*ALWAYS, "action", "pod_name")
    assert (line["level"], line["event"], line["leader"]) == ("info", "created", False)
    assert line["logger"] == "userstorage_operator.somewhere"
    assert line["time"].endswith("Z")


def test_every_line_has_the_leader_field() -> None:
    written = Written()
    log.info("started")
    written.logs.set_leader(True)
    log.info("started")
    logging.getLogger("kopf.activities").error("of a library")
    written.logs.set_leader(False)
    log.info("started")
    assert [line["leader"] for line in written.lines()] == [False, True, True, False]


@pytest.mark.parametrize("name", ["kopf.objects", "aiohttp.server", "asyncio", "kubernetes.aio", "py.warnings"])
def test_libraries_log_warnings_in_the_same_format(name: str) -> None:
    written = Written(level="debug")
    logging.getLogger(name).info("every little thing")
    logging.getLogger(name).warning("it %s", "failed")
    assert [(line["logger"], line["level"], line["event"]) for line in written.lines()] == [(name, "warning", "it failed")]


def test_warnings_and_uncaught_exceptions_are_logged() -> None:
    written = Written()
    logs.catch_uncaught()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    thread = threading.Thread(target=int, args=("x",))
    thread.start()
    thread.join()
    try:
        fail(ValueError("at the top"))
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old thing", DeprecationWarning, stacklevel=1)
    loop, thread_line, top, warning = written.lines()
    assert loop["logger"] == "asyncio"
    assert "ZeroDivisionError" in loop["exception"]
    assert (thread_line["event"], thread_line["error_kind"]) == ("uncaught_exception", "ValueError")
    assert (top["level"], top["error"]) == ("critical", "at the top")
    assert "old thing" in warning["event"]


def test_traceback_has_no_values_of_variables() -> None:
    written = Written()
    hidden_value = "value-of-a-" + "variable"
    try:
        fail(RuntimeError())
    except RuntimeError:
        log.exception("watch_crashed")
    assert hidden_value not in written.text()
    assert "RuntimeError" in written.lines()[0]["exception"]


def log_secrets() -> None:
    """Log secrets in every way in which one could get into a line."""
    request = aiohttp.RequestInfo(
        URL("https://user:hunter2@10.0.0.1/api"),
        "GET",
        CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {CREDENTIAL}"})),
        URL("https://10.0.0.1"),
    )
    log.warning(
        "login_failed", error=f"refused: {CREDENTIAL}", token=CREDENTIAL, headers={"Authorization": "Basic dXNlcjpwYXNz"}
    )
    log.warning(
        "x", url="redis://:s3cret@redis:6379/0", nested=[{"password": "hunter2"}, ("Authorization", f"Bearer {CREDENTIAL}")]
    )
    log.warning("x", error="password=hunter2, 'api_key': 'hunter2' and \"secret\": \"hun ter2 hunter2\"; Cookie: hunter2")
    log.warning("x", url="redis://default:s3c@s3cret@redis", quoted="redis://:a'\"<s3cret@redis", obj=request)
    logging.getLogger("redis").error("cannot reach %s", "rediss://admin:s3cret@redis:6379")
    try:
        fail(aiohttp.ClientResponseError(request, (), message=f"Authorization: Bearer {CREDENTIAL}", headers=request.headers))
    except aiohttp.ClientResponseError as error:
        log.exception("watch_crashed", error=str(error), repr=repr(error))
    try:
        fail(ConnectionError("redis://:s3cret@redis:6379 refused"))
    except ConnectionError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")


@FORMS
def test_secrets_are_redacted(json_format: bool) -> None:
    written = Written(json_format)
    log_secrets()
    assert written.text().count(REDACTED) > 12
    for canary in CANARIES:
        assert canary not in written.text()
    assert "redis://[redacted]@redis:6379/0" in written.text()  # the rest of the URL stays


@pytest.mark.parametrize(
    "harmless",
    [
        'secrets "alice" not found',
        'pods "user-storage-alice" is forbidden: exceeded quota: none, requested: pods=1, used: pods=0, limited: pods=0',
        "ghcr.io/gtsteffaniak/filebrowser@sha256:0123",
        "Cannot connect to host 10.0.0.1:6443 ssl:default [Connect call failed ('10.0.0.1', 6443)]",
        "alice@example.org",
    ],
)
def test_harmless_text_is_logged_in_full(harmless: str) -> None:
    written = Written()
    log.warning("reconcile_failed", error=harmless)
    assert written.lines()[0]["error"] == harmless


@given(UNTRUSTED, UNTRUSTED, UNTRUSTED)
def test_untrusted_text_stays_on_one_json_line(event: str, value: str, key: str) -> None:
    written = Written()
    log.warning("condition_changed", message=value, objects=[{key: value}])
    logging.getLogger("kopf").warning(event)
    lines = written.text().splitlines()
    assert len(lines) == 2
    assert written.text().replace("\n", "").isprintable()
    texts = [json.loads(lines[0])["message"], *json.loads(lines[0])["objects"][0], json.loads(lines[1])["event"]]
    assert all(text.isprintable() and len(text) <= TEXT_MAX + len("...[cut]") for text in texts)


@given(UNTRUSTED, UNTRUSTED)
def test_untrusted_text_stays_on_one_console_line(event: str, value: str) -> None:
    written = Written(json_format=False)
    log.warning("condition_changed", message=value)
    logging.getLogger("kopf").warning(event)
    lines = written.text().split("\n")
    assert len(lines) == 3  # each ends in a line feed
    assert all(line.isprintable() for line in lines)


def test_traceback_on_a_terminal_cannot_imitate_an_event() -> None:
    written = Written(json_format=False)
    try:
        fail(ValueError("\n2026-01-01T00:00:00Z [info] all is well\x1b[2J"))
    except ValueError:
        log.exception("watch_crashed")
    first, *others = written.text().rstrip("\n").split("\n")
    assert "watch_crashed" in first
    assert all(line.startswith("    ") and line.isprintable() for line in others)


@pytest.mark.parametrize(
    "hostile",
    ["://" * 500_000, "token" * 300_000, "token" + " " * 1_000_000, "bearer " * 200_000, "eyJ" * 500_000, "\x00" * 1_000_000],
)
def test_cleaning_of_hostile_text_is_fast(hostile: str) -> None:
    started = time.process_time()
    assert len(clean_text(hostile)) <= TEXT_MAX + len("...[cut]")
    assert time.process_time() - started < 0.2


def test_secret_where_long_text_is_cut_is_redacted() -> None:
    for padding in range(TEXT_MAX - 30, TEXT_MAX):
        assert "s3cret" not in clean_text("x" * padding + " redis://:s3cret@redis " + "y" * 5000)


def test_long_text_is_cut_with_a_mark() -> None:
    written = Written()
    log.warning("reconcile_failed", error="x" * 4096)
    assert written.lines()[0]["error"] == "x" * TEXT_MAX + "...[cut]"


@pytest.mark.parametrize("value", [2**80, float("nan"), b"bytes", object, {1: {2: {3: {4: {5: "deep"}}}}}, {"set"}])
def test_any_value_can_be_logged(value: Any) -> None:
    written = Written()
    log.warning("swept", objects=value)
    assert len(written.lines()) == 1


def test_debug_level_is_toggled() -> None:
    written = Written(level="warning")
    log.debug("swept")
    written.logs.toggle_debug()
    log.debug("swept")
    logging.getLogger("kopf").debug("every event of every object")
    written.logs.toggle_debug()
    log.info("started")
    events = [(line["event"], line.get("to")) for line in written.lines()]
    assert events == [("log_level_changed", "debug"), ("swept", None), ("log_level_changed", "warning")]


async def reconcile_lines(written: Written, *results: Result | Exception) -> list[dict[str, Any]]:
    """Reconcile one key with these results, one after the other, and return the log lines."""
    queue: WorkQueue[str] = WorkQueue(lambda _: 3600)
    todo, done = list(results), asyncio.Event()

    async def reconcile(key: str, failures: int) -> Result:
        result = todo.pop(0)
        if todo:
            queue.add(key)
        else:
            done.set()
        if isinstance(result, Exception):
            raise result
        return result

    pool = WorkerPool(queue, reconcile, lambda *_: None)
    queue.add("alice")
    worker = asyncio.create_task(pool.work())
    await asyncio.wait_for(done.wait(), 5)
    await asyncio.sleep(0)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    return written.lines()


REFUSED = Result(reason="Forbidden", retry=True, error="not you", action="create Pod")


async def test_reconcile_without_changes_logs_nothing() -> None:
    assert await reconcile_lines(Written(level="debug"), Result(), Result()) == []


async def test_failure_and_recovery_are_logged_once() -> None:
    lines = await reconcile_lines(Written(), REFUSED, REFUSED, REFUSED, Result(), Result())
    assert [(line["event"], line["level"]) for line in lines] == [
        ("reconcile_failed", "warning"),
        ("reconcile_recovered", "info"),
    ]
    first = lines[0]
    assert (first["error_kind"], first["error"], first["action"], first["attempts"]) == (
        "Forbidden",
        "not you",
        "create Pod",
        1,
    )
    assert first["next_retry"]
    assert first["duration_ms"] >= 0


async def test_changed_failure_is_logged_again_and_repetitions_at_debug_level() -> None:
    other = Result(reason="Forbidden", retry=True, error="nor you")
    lines = await reconcile_lines(Written(level="debug"), REFUSED, REFUSED, other, Result(), REFUSED)
    logged = [(line["event"], line["level"], line.get("attempts")) for line in lines]
    assert logged == [
        ("reconcile_failed", "warning", 1),
        ("reconcile_failed", "debug", 2),
        ("reconcile_failed", "warning", 3),
        ("reconcile_recovered", "info", None),
        ("reconcile_failed", "warning", 1),
    ]


async def test_log_line_of_a_failure_without_retry_has_no_next_retry_field() -> None:
    [line] = await reconcile_lines(Written(), Result(reason="InvalidSpec", error="spec.storage.size: no"))
    assert "next_retry" not in line


async def test_failure_marked_as_routine_is_not_logged() -> None:
    assert (
        await reconcile_lines(Written(), Result(reason="APIError", retry=True, error="moved on", routine=True), Result()) == []
    )


async def test_crash_is_an_error_with_its_traceback() -> None:
    [line] = await reconcile_lines(Written(), ZeroDivisionError("of ours"))
    assert (line["level"], line["error_kind"]) == ("error", "InternalError")
    assert "ZeroDivisionError: of ours" in line["exception"]


async def test_fields_bound_by_one_reconcile_do_not_leak_into_another() -> None:
    """Check the next reconcile of the same worker, and a concurrent one of another worker."""
    written = Written()
    queue: WorkQueue[str] = WorkQueue(backoff.delay)
    together, finished = asyncio.Barrier(2), asyncio.Event()
    todo = ["alice", "bob", "unbound", "unbound too"]

    async def reconcile(key: str, failures: int) -> Result:
        if not key.startswith("unbound"):
            structlog.contextvars.bind_contextvars(name=key)
        await together.wait()
        log.info("created", action=key)
        await together.wait()
        todo.remove(key)
        if not todo:
            finished.set()
        return Result()

    pool = WorkerPool(queue, reconcile, lambda *_: None)
    for key in (*todo,):
        queue.add(key)
    workers = [asyncio.create_task(pool.work()) for _ in range(2)]
    await asyncio.wait_for(finished.wait(), 5)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    lines = written.lines()
    assert {line["action"]: line.get("name") for line in lines} == {
        "alice": "alice",
        "bob": "bob",
        "unbound": None,
        "unbound too": None,
    }
    assert len({line["reconcile_id"] for line in lines}) == 4


@FORMS
@given(st.sampled_from(identities.ALL) | identities.VALID)
def test_user_id_is_logged_as_it_was_sent(json_format: bool, user_id: str) -> None:
    written = Written(json_format)
    log.info("created", user_id=user_id, message=f"spec.userID: {user_id}")
    [line] = written.text().splitlines()
    assert json.loads(line)["user_id"] == user_id if json_format else f"user_id={user_id}" in line or repr(user_id) in line


def test_user_id_that_no_schema_has_checked_is_one_short_line() -> None:
    written = Written()
    log.info("created", user_id="a\nb\x1b[2J" + "x" * 5000)
    [line] = written.text().splitlines()
    found = json.loads(line)["user_id"]
    assert found.startswith(r"a\nb\x1b[2Jxxx")
    assert found.endswith("...[cut]")
