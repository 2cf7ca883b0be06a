"""Health, readiness and metrics of a running operator while the API server hangs and while a worker hangs."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from localcluster import ClusterError, state
from localcluster.addresses import free_port
from localcluster.layout import Layout
from support.faultproxy import Fault, FaultProxy
from support.inprocess import serving
from support.kubectl import PATIENCE, Kubectl
from support.live import Live
from support.scrape import SERIES_BUDGET, series_names
from testservers import prometheus
from userstorage_operator import health
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.config import Config
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.status.outcome import ApplyResult

pytestmark = [pytest.mark.kwok]

Answer = tuple[int, dict[str, Any]]


class Endpoints:
    """The HTTP endpoints that kubelet and Prometheus request."""

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
        self, path: str, code: int, within: float = PATIENCE, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> Answer:
        """Return the first answer with that code. Fails if there is none within `within` seconds."""
        deadline = time.monotonic() + within
        while (answer := await self.json(path))[0] != code:
            assert time.monotonic() < deadline, f"{path} is not {code} within {within} s: {answer}"
            if meanwhile is not None:
                await meanwhile()
            await asyncio.sleep(0.1)
        return answer


@pytest.fixture
def port(live: Live) -> Iterator[int]:
    """Run an operator for the test's namespace and return its HTTP port."""
    port = free_port()
    with serving(Config(namespaces=(live.namespace,), http_port=port, sweep_period=3600)):
        yield port


@pytest.fixture
async def endpoints(port: int) -> AsyncIterator[Endpoints]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        endpoints = Endpoints(session, port)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await endpoints.until("/ready", 200)
                break
            except aiohttp.ClientConnectorError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
        yield endpoints


@pytest.fixture
def stop_and_go(api: Kubectl) -> Iterator[Callable[[signal.Signals], None]]:
    """Return a function that sends a signal to the API server. The fixture resumes it at the end."""
    found = state.read(Layout(api.kubeconfig.parent).state)
    assert found is not None
    pid = found.processes["kube-apiserver"].pid
    yield lambda number: os.kill(pid, number)
    os.kill(pid, signal.SIGCONT)


async def test_ready_follows_the_api_server_and_health_does_not(
    endpoints: Endpoints, stop_and_go: Callable[[signal.Signals], None], live: Live
) -> None:
    async def healthy() -> None:
        assert (await endpoints.json("/health"))[0] == 200

    await live.create()
    await live.until_ready()
    for _ in range(2):
        stop_and_go(signal.SIGSTOP)
        _, answer = await endpoints.until("/ready", 503, meanwhile=healthy)
        assert answer["status"] == "failing"
        assert "no answer" in answer["failing"]["apiServer"]
        for _ in range(80):  # long enough for the timeouts of informers and kopf
            await healthy()
            await asyncio.sleep(0.1)
        stop_and_go(signal.SIGCONT)
        _, answer = await endpoints.until("/ready", 200, meanwhile=healthy)
        assert answer["failing"] == {}
        assert answer["role"] == "leading"
    await healthy()


async def test_one_hanging_worker_of_many_fails_health(
    endpoints: Endpoints, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_WORKER_STALL", 5)  # 45 s
    await live.create("bob")
    await live.until_ready("bob")
    original = Reconciler._plan_and_apply

    async def hanging(self: Reconciler, snapshot: Snapshot, now: datetime) -> ApplyResult:
        if snapshot.storage.meta.name == "alice":
            await asyncio.Event().wait()
        return await original(self, snapshot, now)

    monkeypatch.setattr(Reconciler, "_plan_and_apply", hanging)
    assert (await endpoints.json("/health"))[0] == 200
    await live.create("alice")
    _, answer = await endpoints.until("/health", 503)
    assert "a reconcile has been running for" in answer["failing"]["workers"]
    assert (await endpoints.json("/ready"))[0] == 200
    await live.create("carol")
    await live.until_ready("carol")


async def test_refused_watch_of_our_kinds_degrades_readiness_and_counts_its_silence(
    proxy: FaultProxy, endpoints: Endpoints, live: Live
) -> None:
    async def failing() -> list[str]:
        """Return the failing watches. They may include those of children, which count as failing until their next bookmark."""
        problem: str = (await endpoints.json("/ready"))[1]["degraded"].get("watches", "")
        return problem.partition(": ")[2].split(", ")

    async def silence(resource: str) -> float:
        name = f'userstorage_watch_silence_seconds{{resource="{resource}"}} '
        return next(
            float(line.removeprefix(name)) for line in (await endpoints.metrics()).splitlines() if line.startswith(name)
        )

    async def watched(resource: str) -> bool:
        return resource not in await failing() and await silence(resource) == 0

    async def refused(resource: str) -> bool:
        return resource in await failing() and await silence(resource) > 1

    for resource in ("userstorages", "userstorageclasses"):
        await live.until(lambda: watched(resource))  # noqa: B023  # called within the same iteration
        proxy.fail(Fault("GET", f"/{resource}[?].*watch=", 403, f"cannot watch {resource}"))
        proxy.hang_up()
        await live.until(lambda: refused(resource))  # noqa: B023  # as above
        assert (await endpoints.json("/ready"))[0] == (await endpoints.json("/health"))[0] == 200
        proxy.fail()
        await live.until(lambda: watched(resource))  # noqa: B023  # as above


async def test_scrape_is_valid_and_small_and_has_the_same_series_for_more_users(endpoints: Endpoints, live: Live) -> None:
    before = series_names(await endpoints.metrics())
    assert len(before) <= SERIES_BUDGET
    for n in range(20):
        await live.create(f"u{n}")
    await live.create("unlucky", className="no-such-class")
    for n in range(20):
        await live.until_ready(f"u{n}")
    await live.until_condition("Ready", "False", "ClassNotFound", "unlucky")
    text = await endpoints.metrics()
    assert series_names(text) == before
    for line in (
        'userstorage_objects{phase="Ready"} 20.0',
        'userstorage_condition_reasons{reason="ClassNotFound"} 1.0',
        'userstorage_conditions{status="True",type="Stalled"} 1.0',
        'userstorage_class_objects{class="_builtin"} 20.0',
        'userstorage_class_objects{class="_rest"} 1.0',
        "userstorage_time_to_ready_seconds_count 20.0",
        "userstorage_api_up 1.0",
    ):
        assert line in text.splitlines()
    assert 'userstorage_reconcile_errors_total{reason="ClassNotFound"} 0.0' not in text.splitlines()
    try:
        checked = prometheus.promtool("check", "metrics", stdin=text)
    except ClusterError as error:
        pytest.skip(str(error))
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_deletion_is_counted_until_it_is_complete(endpoints: Endpoints, live: Live) -> None:
    await live.create()
    await live.until_ready()
    await live.change({"metadata": {"finalizers": ["userstorage.dev/pod-gone", "example.org/keep"]}})
    await live.delete(USER_STORAGES, "alice")

    async def has(line: str) -> bool:
        return line in (await endpoints.metrics()).splitlines()

    await live.until(lambda: has("userstorage_deletions_in_flight 1.0"))
    await live.change({"metadata": {"finalizers": None}})
    await live.until(lambda: has("userstorage_deletions_in_flight 0.0"))
