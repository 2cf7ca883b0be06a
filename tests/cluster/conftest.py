"""The operator as a process, with a real API server and pods simulated by kwok."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import localcluster
from localcluster.addresses import free_port
from support.apiproxy import ApiProxy
from support.kubectl import Kubectl
from support.operator_process import OperatorProcess


@pytest.fixture
def empty_cluster(tmp_path: Path) -> Iterator[Kubectl]:
    """A cluster of the test's own, on which nothing is installed."""
    directory = tmp_path / "cluster"
    cluster = localcluster.start("control-plane", directory)
    try:
        kubectl = Kubectl(str(cluster.kubectl), cluster.kubeconfig)
        with kubectl.proxied():
            yield kubectl
    finally:
        localcluster.stop(directory)


@pytest.fixture
def many(request: pytest.FixtureRequest) -> int:
    """The number of users in a test of many."""
    number: int = request.config.getoption("--many-users")
    return number


@pytest.fixture
def port() -> int:
    """A port for an operator's HTTP server. It is chosen when the server is about to start, so that no other program takes it first."""
    return free_port()


@pytest.fixture
def operator_options() -> tuple[str, ...]:
    """Further options of `operator`. A file whose tests need some overrides this."""
    return ()


@pytest.fixture
def operator(
    api_proxy: ApiProxy, as_operator: Path, namespace: str, tmp_path: Path, operator_options: tuple[str, ...]
) -> Iterator[OperatorProcess]:
    """An operator process for the test's namespace, with the rights of deploy/rbac, not yet started."""
    with OperatorProcess(as_operator, tmp_path / "operator.log", f"--namespace={namespace}", *operator_options) as process:
        yield process
    # Without an operator, finalizers would remain, and a namespace that cannot terminate keeps the API server busy.
    for group, plural in (("userstorage.dev", "userstorages"), ("networking.k8s.io", "networkpolicies")):
        path = f"/apis/{group}/v1/namespaces/{namespace}/{plural}"
        for raw in api_proxy.request("GET", path)["items"]:
            api_proxy.request("PATCH", f"{path}/{raw['metadata']['name']}", {"metadata": {"finalizers": None}})
