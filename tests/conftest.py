"""Which cluster the tests run on, and what they could not run."""

import os
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import localcluster
from localcluster import ClusterError, packages
from localcluster.kind import docker_answers, kind_cluster
from localcluster.progress import silent
from localcluster.redis import Options, RedisServer
from support import parallel, reruns
from support.kubectl import Kubectl, eventually
from support.operator_account import ACCOUNT, log_in
from support.recorder import ReasonRecorder, declared_by, recording

ROOT = Path(__file__).parent.parent
_RECORDER = pytest.StashKey[ReasonRecorder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        choices=["auto", "local", "kind", "existing"],
        default="auto",
        help="auto: kind where a Docker engine answers, else local; existing: the one that KUBECONFIG names",
    )
    parser.addoption("--election-trials", type=int, default=1, help="how often each way to lose a leader is tried")
    parser.addoption("--election-table", help="where to write what they took")
    parser.addoption("--redis-proof-objects", type=int, default=12, help="size of the workload under each condition of Redis")
    parser.addoption("--redis-proof-table", help="where to write the table of it")
    parser.addoption("--redis-steady-objects", type=int, default=100, help="objects of the tests of Redis in steady state")
    parser.addoption("--upgrade-objects", type=int, default=30, help="how many users more an upgrade finds")
    parser.addoption(
        "--forged-seconds", type=int, default=10, help="how long the operator is made to try at what strangers forged"
    )


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("busy", deadline=None)  # two workers of three may be compiling
    settings.load_profile("busy")
    config.pluginmanager.register(parallel)
    config.pluginmanager.register(reruns)
    config.addinivalue_line("markers", "kwok: needs pods whose life the test scripts; runs on the local cluster only")
    config.addinivalue_line(
        "markers", "produces(*reasons): fails unless the API server showed each 'Type/Reason' in the test's namespace"
    )


@pytest.hookimpl(optionalhook=True)  # -p no:xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Most of a test is waiting, so three take little more of two processors than one. Where the cluster is not the
    worker's own, tests would meet in it.
    """
    return 3 if chosen_cluster(config) == "local" else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chosen_cluster(config) == "local":
        return
    for item in items:
        if item.get_closest_marker("kwok"):
            item.add_marker(pytest.mark.skip(reason="scripted pod lives need the local cluster (--cluster=local)"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what could not be tried here, and why."""
    reasons = {
        str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)
    }
    if reasons:
        terminalreporter.section("could not be run on this machine")
        for reason in sorted(reasons):
            terminalreporter.line(reason.removeprefix("Skipped: "))


def chosen_cluster(config: pytest.Config) -> str:
    """local, kind or existing."""
    choice: str = config.getoption("--cluster")
    if choice != "auto":
        return choice
    return "kind" if docker_answers() else "local"


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl against a cluster with the CRDs; the cluster is the test run's own unless the user named one."""
    match chosen_cluster(request.config):
        case "existing":
            kubeconfig = os.environ.get("KUBECONFIG") or pytest.fail("--cluster=existing needs KUBECONFIG")
            yield install_manifests(Kubectl("kubectl", Path(kubeconfig)))
        case "kind":
            kind = kind_cluster(f"userstorage-{uuid.uuid4().hex[:6]}", tmp_path_factory.mktemp("kind") / "kubeconfig")
            try:
                kind.create()
                kind.ensure_kubectl()
                yield install_manifests(Kubectl(str(Path(kind.kubectl_path).absolute()), Path(kind.kubeconfig_path)))
            finally:
                kind.delete()
        case _:
            directory = tmp_path_factory.mktemp("control-plane")
            cluster = localcluster.start("control-plane", directory)
            try:
                yield install_manifests(Kubectl(str(cluster.kubectl), cluster.kubeconfig))
            finally:
                localcluster.stop(directory)


def install_manifests(kubectl: Kubectl) -> Kubectl:
    """The same, once the API server serves our kinds."""
    kubectl.run("apply", "-k", str(ROOT / "deploy/crds"))
    kubectl.run("apply", "-k", str(ROOT / "deploy/rbac"))
    kubectl.run("apply", "-k", str(ROOT / "deploy/admission"))
    kubectl.wait_established("crd/userstorages.userstorage.dev", "crd/userstorageclasses.userstorage.dev")
    # The API server takes a moment to see what a role binding says.
    may = ["auth", "can-i", "watch", "userstorages.userstorage.dev", "-A", f"--as={ACCOUNT}"]
    eventually(lambda: kubectl.run(*may, check=False).returncode == 0)
    return kubectl


@pytest.fixture(scope="session")
def as_operator(api: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with the rights of deploy/rbac and no other."""
    return log_in(api, tmp_path_factory.mktemp("operator")).kubeconfig


@pytest.fixture
def namespace(api: Kubectl) -> Iterator[str]:
    """A namespace of the test's own that enforces Pod Security `restricted`."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    api.run("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def new_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts Redis servers of the test's own, each with its `Options` as keywords."""
    servers: list[RedisServer] = []

    def start(**options: Any) -> RedisServer:
        servers.append(RedisServer(tmp_path / f"redis-{len(servers)}", Options(**options)))
        return servers[-1].start()

    try:
        packages.ensure_redis(silent)
    except ClusterError as error:
        pytest.skip(str(error))
    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def redis_server(new_redis: Callable[..., RedisServer]) -> RedisServer:
    """An empty Redis of the test's own."""
    return new_redis()


@pytest.fixture(autouse=True)
def recorded_reasons(request: pytest.FixtureRequest) -> Iterator[None]:
    """Watch the namespace of a test that is marked with `produces`, from before its operator starts."""
    item: pytest.Item = request.node
    if not declared_by(item):
        yield
        return
    if "users" in request.fixturenames:  # end to end: a cluster and a namespace of its own
        users = request.getfixturevalue("users")
        kubeconfig, namespace = users.kubectl.kubeconfig, users.namespace
    else:
        kubeconfig, namespace = request.getfixturevalue("api").kubeconfig, request.getfixturevalue("namespace")
    with recording(kubeconfig, namespace) as recorder:
        item.stash[_RECORDER] = recorder
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A marked test has to have produced its reasons by its end."""
    result = yield
    if (recorder := item.stash.get(_RECORDER, None)) is not None:
        recorder.check(declared_by(item))
    return result
