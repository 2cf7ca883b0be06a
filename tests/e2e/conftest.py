"""End-to-end tests with real containers: one cluster, one operator process, and one namespace per test."""

import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

import localcluster
from conftest import ROOT, chosen_cluster, install_manifests
from localcluster.addresses import free_port
from localcluster.netns import Namespace
from support import chromium
from support.cluster_access import ClusterAccess, LocalNode, RemoteCluster, can_create_namespaces
from support.front_door import FrontDoor
from support.gate_process import GateProcess
from support.gateway_table import ANSWERS
from support.kubectl import WAIT, Kubectl
from support.operator_process import OperatorProcess
from support.users import DUFS, FILE_BROWSER, NamespaceUsers

LABEL = "userstorage-e2e"
LOG_TAIL = 6000
"""Characters of the operator's log that are shown with a failed test."""


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterAccess]:
    """The cluster with our manifests: a node cluster of this test run, or another one if --cluster says so."""
    if chosen_cluster(request.config) != "local":
        remote = RemoteCluster(request.getfixturevalue("api"))
        yield remote
        remote.close()
        return
    directory = tmp_path_factory.mktemp("node")
    try:
        node = localcluster.start("node", directory)
    except localcluster.ClusterError as error:
        if can_create_namespaces():
            raise
        pytest.skip(f"end-to-end tests on real containers: {error}")
    try:
        with Kubectl(node.kubeconfig) as kubectl:
            yield LocalNode(install_manifests(kubectl), Namespace(node.processes["namespace"]), directory)
    finally:
        localcluster.stop(directory)


@pytest.fixture(scope="session")
def operator_port() -> int:
    """The port of the operator's HTTP server."""
    return free_port()


@pytest.fixture(scope="session")
def operator(cluster: ClusterAccess, operator_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator process for the whole run."""
    cluster.kubectl.run("apply", "-k", str(ROOT / "deploy/volume-stats"))
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    options = [f"--http-port={operator_port}", "--volume-stats=verified"]
    with OperatorProcess(cluster.kubectl.kubeconfig, log, *options) as process:
        process.start()
        yield process
        if not cluster.has_local_volumes:  # on another cluster, deleting what is left needs the running operator
            cluster.kubectl.run("delete", "namespace", "-l", LABEL, WAIT)
        assert process.stop() == 0


@pytest.fixture
def users(cluster: ClusterAccess, operator: OperatorProcess) -> Iterator[NamespaceUsers]:
    """The users in a new namespace that enforces Pod Security `restricted`."""
    with new_namespace(cluster) as users:
        yield users


@pytest.fixture(scope="session")
def front_door(
    cluster: ClusterAccess, operator: OperatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontDoor[GateProcess]]:
    """alice and bob, a gate and a login, for all tests of gateways."""
    if not cluster.has_local_volumes:
        pytest.skip("gateways of this machine reach Services only on the local node (--cluster=local, as root)")
    with new_namespace(cluster) as users:
        directory = tmp_path_factory.mktemp("front-door")
        door = FrontDoor(users, directory, GateProcess(cluster.kubectl.kubeconfig, directory))
        try:
            yield door.start()
        finally:
            door.stop()


@pytest.fixture
def answers(record_property: Callable[[str, object], None]) -> Iterator[Counter[str]]:
    """How often who got which code, such as `bob 403`, for the table of what each gateway answered."""
    counted = Counter[str]()
    yield counted
    record_property(ANSWERS, dict(counted))


@contextmanager
def new_namespace(cluster: ClusterAccess) -> Iterator[NamespaceUsers]:
    """Create a namespace that enforces Pod Security `restricted`, and delete it with the classes of its users."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", LABEL: "true"}
    cluster.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    users = NamespaceUsers(cluster.kubectl, name, cluster)
    yield users
    # Without waiting: pods terminate while the next test runs.
    cluster.kubectl.delete("namespace", name)
    if users.classes:
        cluster.kubectl.delete("userstorageclass", *users.classes)


@pytest.fixture
def dufs(users: NamespaceUsers) -> str:
    """The name of a class for Dufs."""
    return users.create_class(DUFS)


@pytest.fixture
def filebrowser(users: NamespaceUsers) -> str:
    """The name of a class for File Browser behind a proxy."""
    return users.create_class(FILE_BROWSER)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a headless Chromium."""
    program = chromium.find_or_install()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=chromium.ARGUMENTS)
        yield browser.new_page()
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of the operator's log and a screenshot of the page to a failure report."""
    report = yield
    if report.failed:
        used: dict[str, Any] = getattr(item, "funcargs", {})
        if "operator" in used:
            report.sections.append(("operator log", used["operator"].log.read_text()[-LOG_TAIL:]))
        if "page" in used and report.when == "call":
            picture = Path(used["tmp_path"]) / "page.png"
            used["page"].screenshot(path=picture)
            report.sections.append(("page", f"{used['page'].url}: {picture}"))
    return report
