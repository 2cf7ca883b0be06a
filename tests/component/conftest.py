"""The operator in the process of the test, against the real API server."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support import faultproxy
from support.apiproxy import ApiProxy
from support.faultproxy import FaultProxy
from support.gate_process import Users
from support.inprocess import RecordedMetrics, serving
from support.kubectl import Kubectl
from support.live import ClassOfTest, Live, open_live
from support.redis_replicas import FakeApiServer, InProcessReplicas
from testservers.redis import RedisServer
from userstorage_operator.config import Config


@pytest.fixture
def kubeconfig(api: Kubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig))


@pytest.fixture
async def live(kubeconfig: None, namespace: str) -> AsyncIterator[Live]:
    """The test's namespace, read directly from the API server."""
    async with open_live(namespace) as live:
        yield live


@pytest.fixture
def api_server() -> FakeApiServer:
    """An API server in memory, for replicas in the process of the test."""
    return FakeApiServer()


@pytest.fixture
async def replicas(redis_server: RedisServer, api_server: FakeApiServer) -> AsyncIterator[InProcessReplicas]:
    """Replicas that share a real Redis and the API server in memory."""
    these = InProcessReplicas(redis_server, api_server)
    yield these
    await these.close()


@pytest.fixture
def proxy(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A fault proxy, which the operator uses as its API server; request it before the operator. `live` bypasses it."""
    with faultproxy.running(Path(os.environ["KUBECONFIG"]), tmp_path) as proxy:
        monkeypatch.setenv("KUBECONFIG", str(proxy.kubeconfig))
        yield proxy


@pytest.fixture
def operator(live: Live) -> Iterator[RecordedMetrics]:
    """A running operator that serves the test's namespace."""
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)) as metrics:
        yield metrics


@pytest.fixture
def sweeping(live: Live) -> Iterator[RecordedMetrics]:
    """A running operator that serves the test's namespace and reconciles everything each second."""
    with serving(Config(namespaces=(live.namespace,), http_port=0, sweep_period=1)) as metrics:
        yield metrics


@pytest.fixture
def operator_of_all(live: Live) -> Iterator[RecordedMetrics]:
    """A running operator that serves every namespace, and so writes the status of classes."""
    with serving(Config(namespaces=(), http_port=0, sweep_period=3600)) as metrics:
        yield metrics


@pytest.fixture
def users(api_proxy: ApiProxy, namespace: str) -> Iterator[Users]:
    """The users that a gate knows: the test writes their status."""
    users = Users(api_proxy, namespace)
    with users.classes():
        yield users


@pytest.fixture
async def exposing_class(live: Live) -> AsyncIterator[ClassOfTest]:
    """A class that exposes its users through an Ingress; a test can change it."""
    cls = ClassOfTest(live, f"class-{live.namespace}")
    await live.create_class(cls.name, network={"expose": "Ingress", "hostTemplate": "${slug}.${namespace}.example.org"})
    yield cls
    await cls.delete()
