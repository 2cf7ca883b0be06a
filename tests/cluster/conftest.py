"""The operator as a process, with a real API server and pods simulated by kwok."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import localcluster
from localcluster.addresses import free_port
from support.apiproxy import ApiProxy
from support.kubectl import Kubectl
from support.operator_process import OperatorProcess


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Kubectl]]:
    """A function that returns a cluster on which nothing is installed: the last one again, or a new one if that is not empty."""
    with contextlib.ExitStack() as started:
        last: list[Kubectl] = []

        def empty() -> Kubectl:
            if not last or not is_empty(last[-1]):
                directory = tmp_path_factory.mktemp("empty") / "cluster"
                started.callback(localcluster.stop, directory)
                cluster = localcluster.start("control-plane", directory)
                last.append(started.enter_context(Kubectl(cluster.kubeconfig)))
            return last[-1]

        yield empty


@pytest.fixture
def empty_cluster(clusters: Callable[[], Kubectl]) -> Kubectl:
    """A cluster on which nothing is installed, of the tests of this file only. A test that leaves it empty saves the next a start."""
    return clusters()


def is_empty(kubectl: Kubectl) -> bool:
    """Return whether a cluster has no CRDs, and no namespaces but its own."""
    names = kubectl.run("get", "crd,namespaces", "-o", "name").stdout.split()
    return set(names) == {f"namespace/{name}" for name in ("default", "kube-node-lease", "kube-public", "kube-system")}


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
