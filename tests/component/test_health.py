"""What probes and scrapes are told by a running operator, while the API server stops and while its work stands still."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from localcluster import ClusterError, prometheus, state
from localcluster.addresses import free_port
from localcluster.layout import Layout
from support.faultproxy import Fault, FaultProxy
from support.inprocess import serving
from support.kubectl import Kubectl
from support.live import Live
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.config import Config
from userstorage_operator.reconcile.reconciler import Reconciler

pytestmark = [pytest.mark.kwok]

Answer = tuple[int, dict[str, Any]]
BUDGET = 300


class Asked:
    """The HTTP server of the operator, as kubelet and Prometheus see it."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def json(self, path: str) -> Answer:
        async with self._session.get(self._url + path) as answer:
            return answer.status, await answer.json()

    async def metrics(self) -> str:
        async with self._session.get(f"{self._url}/metrics") as answer:
            return await answer.text()

    async def until(
        self, path: str, code: int, within: float, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> Answer:
        """The first answer with that code; the test fails where none comes in time."""
        deadline = time.monotonic() + within
        while (answer := await self.json(path))[0] != code:
            assert time.monotonic() < deadline, f"{path} is not {code} within {within} s: {answer}"
            if meanwhile is not None:
                await meanwhile()
            await asyncio.sleep(0.1)
        return answer


@pytest.fixture
def port(live: Live) -> Iterator[int]:
    """Where a running operator is asked, that serves the test's namespace."""
    port = free_port()
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        yield port


@pytest.fixture
async def asked(port: int) -> AsyncIterator[Asked]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        asked = Asked(session, port)
        deadline = time.monotonic() + 20
        while True:
            try:
                await asked.until("/ready", 200, within=20)
                break
            except aiohttp.ClientConnectorError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        yield asked


@pytest.fixture
def stop_and_go(api: Kubectl) -> Iterator[Callable[[signal.Signals], None]]:
    """Sends a signal to the API server; at the end it goes on."""
    found = state.read(Layout(api.kubeconfig.parent).state)
    assert found is not None
    pid = found.processes["kube-apiserver"].pid
    yield lambda number: os.kill(pid, number)
    os.kill(pid, signal.SIGCONT)


async def test_ready_follows_the_api_server_and_health_does_not(
    asked: Asked, stop_and_go: Callable[[signal.Signals], None], live: Live
) -> None:
    async def healthy() -> None:
        assert (await asked.json("/health"))[0] == 200

    await live.create()
    await live.until_ready()
    for _ in range(2):
        stop_and_go(signal.SIGSTOP)
        _, told = await asked.until("/ready", 503, within=10, meanwhile=healthy)
        assert told["status"] == "failing"
        assert "no answer" in told["failing"]["apiServer"]
        for _ in range(80):  # the informers' and kopf's own limits come while nobody answers
            await healthy()
            await asyncio.sleep(0.1)
        stop_and_go(signal.SIGCONT)
        _, told = await asked.until("/ready", 200, within=10, meanwhile=healthy)
        assert told["failing"] == {}
        assert told["role"] == "leading"
    await healthy()


@pytest.mark.timeout(180)
async def test_one_frozen_worker_of_many_turns_health_to_503_within_a_minute(
    asked: Asked, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    await live.create("bob")
    await live.until_ready("bob")
    honest = Reconciler._reconcile

    async def freezing(self: Reconciler, key: Any, failures: int) -> Any:
        if key.name == "alice":
            await asyncio.Event().wait()
        return await honest(self, key, failures)

    monkeypatch.setattr(Reconciler, "_reconcile", freezing)
    assert (await asked.json("/health"))[0] == 200
    await live.create("alice")
    _, told = await asked.until("/health", 503, within=60)
    assert "a reconcile has been running for" in told["failing"]["workers"]
    assert (await asked.json("/ready"))[0] == 200
    await live.create("carol")
    await live.until_ready("carol")


async def test_a_watch_of_our_own_kinds_that_is_refused_is_named_and_its_silence_counted(
    proxy: FaultProxy, asked: Asked, live: Live
) -> None:
    async def failing() -> list[str]:
        """Those of the children may be among them: they count as failing until their next bookmark."""
        told: str = (await asked.json("/ready"))[1]["degraded"].get("watches", "")
        return told.partition(": ")[2].split(", ")

    async def silence(resource: str) -> float:
        name = f'userstorage_watch_silence_seconds{{resource="{resource}"}} '
        return next(float(line.removeprefix(name)) for line in (await asked.metrics()).splitlines() if line.startswith(name))

    async def watched(resource: str) -> bool:
        return resource not in await failing() and await silence(resource) == 0

    async def refused(resource: str) -> bool:
        return resource in await failing() and await silence(resource) > 1

    for resource in ("userstorages", "userstorageclasses"):
        await live.until(lambda: watched(resource))  # noqa: B023  # called within the same turn
        proxy.fail(Fault("GET", f"/{resource}[?].*watch=", 403, f"cannot watch {resource}"))
        proxy.hang_up()
        await live.until(lambda: refused(resource))  # noqa: B023  # as above
        assert (await asked.json("/ready"))[0] == (await asked.json("/health"))[0] == 200
        proxy.fail()
        await live.until(lambda: watched(resource))  # noqa: B023  # as above


async def test_a_scrape_is_clean_and_small_and_the_same_for_more_users(asked: Asked, live: Live) -> None:
    def names(text: str) -> list[str]:
        return sorted(line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#"))

    before = names(await asked.metrics())
    assert len(before) <= BUDGET
    for n in range(20):
        await live.create(f"u{n}")
    await live.create("unlucky", className="no-such-class")
    for n in range(20):
        await live.until_ready(f"u{n}")
    await live.until_condition("Ready", "False", "ClassNotFound", "unlucky")
    text = await asked.metrics()
    assert names(text) == before
    for said in (
        'userstorage_objects{phase="Ready"} 20.0',
        'userstorage_condition_reasons{reason="ClassNotFound"} 1.0',
        'userstorage_conditions{status="True",type="Stalled"} 1.0',
        'userstorage_class_objects{class="_builtin"} 20.0',
        'userstorage_class_objects{class="_rest"} 1.0',
        "userstorage_time_to_ready_seconds_count 20.0",
        "userstorage_api_up 1.0",
    ):
        assert said in text.splitlines()
    assert 'userstorage_reconcile_errors_total{reason="ClassNotFound"} 0.0' not in text.splitlines()
    try:
        checked = prometheus.promtool("check", "metrics", stdin=text)
    except ClusterError as error:
        pytest.skip(str(error))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_a_deletion_is_seen_until_it_is_over(asked: Asked, live: Live) -> None:
    await live.create()
    await live.until_ready()
    await live.change({"metadata": {"finalizers": ["userstorage.dev/pod-gone", "example.org/keep"]}})
    await live.delete(USER_STORAGES, "alice")

    async def says(line: str) -> bool:
        return line in (await asked.metrics()).splitlines()

    await live.until(lambda: says("userstorage_deletions_in_flight 1.0"))
    await live.change({"metadata": {"finalizers": None}})
    await live.until(lambda: says("userstorage_deletions_in_flight 0.0"))
