"""The cluster that the tests run on, the fixtures of all tests, and a summary of the tests that this machine cannot run."""

import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

import localcluster
from localcluster import ClusterError, Profile
from localcluster.kind import docker_answers, kind_cluster
from localcluster.progress import silent
from support import gateway_table, parallel, reruns
from support.apiproxy import ApiProxy, new_namespace
from support.kubectl import Kubectl, eventually
from support.operator_account import ACCOUNT, log_in
from support.recorder import ReasonRecorder, declared_by, recording
from testservers.redis import Options, RedisServer, ensure_installed

ROOT = Path(__file__).parent.parent
# kubeconfigs and manifests are read thousands of times, and each login of the operator reads one: libyaml takes a tenth of the time.
yaml.SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # type: ignore[misc]
_RECORDER = pytest.StashKey[ReasonRecorder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cluster",
        choices=["auto", "local", "kind", "existing"],
        default="auto",
        help="auto: kind if a Docker engine answers, else local; existing: the cluster of KUBECONFIG",
    )
    parser.addoption(
        "--control-plane",
        choices=[Profile.CONTROL_PLANE, Profile.OLDEST_CONTROL_PLANE],
        default=Profile.CONTROL_PLANE,
        help="profile of the local cluster without a node",
    )
    parser.addoption("--election-trials", type=int, default=1, help="number of trials for each way to lose the leader")
    parser.addoption("--election-table", help="file for the table of failover times")
    parser.addoption(
        "--redis-proof-objects", type=int, default=12, help="number of objects in the workload for each Redis fault"
    )
    parser.addoption("--redis-proof-table", help="file for the table of the Redis proof")
    parser.addoption(
        "--redis-steady-objects", type=int, default=12, help="number of objects in the steady-state tests of Redis"
    )
    parser.addoption("--many-users", type=int, default=20, help="number of users in the tests of many and of a rollout")
    parser.addoption("--sharing-users", type=int, default=12, help="number of users of one volume, with real containers")
    parser.addoption("--upgrade-objects", type=int, default=15, help="number of additional users that an upgrade finds")
    parser.addoption(
        "--all-gateways", action="store_true", help="outages and forged requests at every gateway, not at nginx alone"
    )
    parser.addoption("--gateway-outage", type=float, default=3, help="seconds for which a part of the front door is away")
    parser.addoption("--gateway-mebibytes", type=int, default=300, help="MiB of the file that is downloaded through gateways")
    gateway_table.pytest_addoption(parser)
    parser.addoption(
        "--model-examples", type=int, default=0, help="random histories for the model; 0: a few hundred fixed ones"
    )
    parser.addoption("--model-first", action="store_true", help="the model does not look for a shorter history that fails")
    parser.addoption("--forged-seconds", type=int, default=10, help="seconds for which the operator meets forged objects")


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("busy", deadline=None)  # other xdist workers may be compiling
    settings.load_profile("busy")
    # A shell ignores SIGINT in what it starts in the background, and so would every program that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # API servers and kubectl take half of the processor time of a run, of which their garbage collector needs a sixth by default.
    os.environ.setdefault("GOGC", "400")
    os.environ.setdefault("GOMEMLIMIT", "600MiB")  # of each program, which then collects as often as it must
    # With many more of them than processors, several threads in each cost a tenth more processor time, and bring nothing.
    os.environ.setdefault("GOMAXPROCS", "1")
    config.pluginmanager.register(parallel)
    config.pluginmanager.register(reruns)
    gateway_table.pytest_configure(config)
    config.addinivalue_line("markers", "kwok: needs pods with a scripted lifecycle; runs on the local cluster only")
    config.addinivalue_line(
        "markers", "produces(*reasons): fails unless the API server showed each 'Type/Reason' in the test's namespace"
    )


@pytest.hookimpl(optionalhook=True)  # -p no:xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return five workers for the local cluster, else none.

    Tests mostly wait: each takes a third of a processor. On a shared cluster, tests of several workers would affect each other.
    """
    return 5 if chosen_cluster(config) == "local" else 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if chosen_cluster(config) == "local":
        return
    for item in items:
        if item.get_closest_marker("kwok"):
            item.add_marker(pytest.mark.skip(reason="scripted pod lifecycles need the local cluster (--cluster=local)"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report the reasons for skipped tests."""
    reasons = {
        str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)
    }
    if reasons:
        terminalreporter.section("tests that could not run on this machine")
        for reason in sorted(reasons):
            terminalreporter.line(reason.removeprefix("Skipped: "))


@cache
def chosen_cluster(config: pytest.Config) -> str:
    """Return local, kind or existing."""
    choice: str = config.getoption("--cluster")
    if choice != "auto":
        return choice
    return "kind" if docker_answers() else "local"


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """kubectl for a cluster with our manifests; the test run creates the cluster unless --cluster=existing names one."""
    match chosen_cluster(request.config):
        case "existing":
            kubeconfig = os.environ.get("KUBECONFIG") or pytest.fail("--cluster=existing needs KUBECONFIG")
            with Kubectl(Path(kubeconfig)) as kubectl:
                yield install_manifests(kubectl)
        case "kind":
            kind = kind_cluster(f"userstorage-{uuid.uuid4().hex[:6]}", tmp_path_factory.mktemp("kind") / "kubeconfig")
            try:
                kind.create()
                with Kubectl(Path(kind.kubeconfig_path)) as kubectl:
                    yield install_manifests(kubectl)
            finally:
                kind.delete()
        case _:
            directory = tmp_path_factory.mktemp("control-plane")
            cluster = localcluster.start(request.config.getoption("--control-plane"), directory)
            try:
                with Kubectl(cluster.kubeconfig) as kubectl:
                    yield install_manifests(kubectl)
            finally:
                localcluster.stop(directory)


def install_manifests(kubectl: Kubectl) -> Kubectl:
    """Install CRDs, RBAC and admission policies, wait until the API server serves them, and return `kubectl`."""
    kubectl.run("apply", "-k", str(ROOT / "deploy/crds"))
    kubectl.run("apply", "-k", str(ROOT / "deploy/rbac"))
    kubectl.run("apply", "-k", str(ROOT / "deploy/admission"))
    kubectl.wait_established("crd/userstorages.userstorage.dev", "crd/userstorageclasses.userstorage.dev")
    # A new role binding takes effect in the API server with a delay.
    may = ["auth", "can-i", "watch", "userstorages.userstorage.dev", "-A", f"--as={ACCOUNT}"]
    eventually(lambda: kubectl.run(*may, check=False).returncode == 0)
    return kubectl


@pytest.fixture(scope="session")
def as_operator(api: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with only the rights of deploy/rbac."""
    return log_in(api, tmp_path_factory.mktemp("operator")).kubeconfig


@pytest.fixture(scope="session")
def api_proxy(api: Kubectl) -> ApiProxy:
    """The API server of `api`, for many small requests."""
    return api.proxy


@pytest.fixture
def namespace(request: pytest.FixtureRequest, api_proxy: ApiProxy) -> Iterator[str]:
    """A new namespace that enforces Pod Security `restricted`. It outlives the test on a cluster that ends with the run."""
    with new_namespace(api_proxy, delete=chosen_cluster(request.config) != "local") as name:
        yield name


@pytest.fixture
def new_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """A function that starts a Redis server; its keywords are the fields of `Options`. The servers end with the test."""
    servers: list[RedisServer] = []

    def start(**options: Any) -> RedisServer:
        servers.append(RedisServer(tmp_path / f"redis-{len(servers)}", Options(**options)))
        return servers[-1].start()

    try:
        ensure_installed(silent)
    except ClusterError as error:
        pytest.skip(str(error))
    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def redis_server(new_redis: Callable[..., RedisServer]) -> RedisServer:
    """A new, empty Redis server."""
    return new_redis()


@pytest.fixture(autouse=True)
def recorded_reasons(request: pytest.FixtureRequest) -> Iterator[None]:
    """Watch the namespace of a test marked with `produces`, starting before the operator does."""
    item: pytest.Item = request.node
    if not declared_by(item):
        yield
        return
    if "users" in request.fixturenames:  # end to end: another cluster and namespace
        users = request.getfixturevalue("users")
        kubeconfig, namespace = users.kubectl.kubeconfig, users.namespace
    else:
        kubeconfig, namespace = request.getfixturevalue("api").kubeconfig, request.getfixturevalue("namespace")
    with recording(kubeconfig, namespace) as recorder:
        item.stash[_RECORDER] = recorder
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test marked with `produces` if a declared reason was not produced by its end."""
    result = yield
    if (recorder := item.stash.get(_RECORDER, None)) is not None:
        recorder.check(declared_by(item))
    return result
