"""From nothing to alice Ready with install.yaml and with the Helm chart; then upgraded, rolled back and uninstalled: claims stay.

The nodes of these clusters execute no containers, so the operator runs as a process, with the account, the arguments and the
environment of the installed Deployment. Its pods show that the API server admits them.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.helm import helm
from localcluster.progress import silent
from release.artifacts import VERSION, Image, write
from support.kubectl import WAIT, Kubectl, eventually
from support.operator_account import log_in
from support.operator_process import PROGRAM, OperatorProcess
from support.released import pods
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok, pytest.mark.timeout(1800)]  # the first build of Helm
USERS = "users"
DEPLOYMENT = "userstorage-operator"
OWN_CRDS = ("crd/userstorages.userstorage.dev", "crd/userstorageclasses.userstorage.dev")


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifacts of this version and of one that is newer, by the tag of their image."""
    found = {}
    for tag in (VERSION, "next"):
        found[tag] = tmp_path_factory.mktemp("release") / tag
        write(Image("registry.example.org/userstorage-operator", tag, ""), "owner/name", found[tag], silent)
    return found


class Installed:
    """An installed operator, of which the process stands for the leading pod."""

    def __init__(self, api: Kubectl, namespace: str, directory: Path) -> None:
        self._api = api
        self._namespace = namespace
        self._directory = directory
        self.process: OperatorProcess | None = None

    def until_rolled_out(self, image: str) -> Unstructured:
        """Wait until all pods of the Deployment are ready and run the image; return the container."""
        self._api.run("rollout", "status", f"deployment/{DEPLOYMENT}", "-n", self._namespace, WAIT)
        deployment = self._api.get("deployment", DEPLOYMENT, self._namespace)
        assert deployment is not None
        assert deployment["status"]["readyReplicas"] == deployment["spec"]["replicas"]
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == image
        result: Unstructured = container
        return result

    def lead(self, container: Unstructured) -> None:
        """Start the operator as the container of the Deployment would, in the place of the one before."""
        self.stop()
        options = [each for each in container["args"][1:] if not each.startswith(("--http-port", "--log-format"))]
        self._directory.mkdir(exist_ok=True)
        login = log_in(self._api, self._directory, DEPLOYMENT, self._namespace)
        inside = ["--leader-elect", f"--lease-namespace={self._namespace}"]  # as in a pod
        self.process = OperatorProcess(login.kubeconfig, self._directory / "log", *options, *inside)
        self.process.start()

    def stop(self) -> None:
        if self.process is not None:
            assert self.process.stop() == 0


def serve_alice(api: Kubectl) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": USERS, "labels": labels}})
    alice = {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": "alice", "namespace": USERS}}
    api.apply({**alice, "spec": {"userID": "alice"}})
    eventually(lambda: api.phase("alice", USERS) == "Ready")


def uid_of_the_pod(api: Kubectl) -> str:
    pod = api.get("pod", "user-storage-alice", USERS)
    assert pod is not None
    return str(pod["metadata"]["uid"])


def release_finalizers(kubeconfig: Path) -> str:
    return subprocess.run(
        [PROGRAM, "release-finalizers"],
        env={"KUBECONFIG": str(kubeconfig)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def delete_users(api: Kubectl) -> None:
    """Steps 4 and 5 of docs/install.md: the pods go while the garbage collector knows the CRD, which it discovers within 30 s."""
    ours = ("--all-namespaces", "-l", "userstorage.dev/managed-by=userstorage-operator")
    api.run("delete", "userstorages", "--all", "--all-namespaces", WAIT)
    api.run("wait", "pods", *ours, "--for=delete", WAIT)
    api.run("delete", "networkpolicies", *ours, WAIT)


def expect_only_claims(api: Kubectl, *namespaces: str) -> None:
    """Nothing of the installation is left, nothing is terminating, and the claim of alice is there."""
    kinds = "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"
    assert "userstorage" not in api.run("get", kinds, "-o", "name").stdout
    assert not pods(api, USERS)
    for namespace in namespaces:
        api.run("delete", "namespace", namespace, "--ignore-not-found", WAIT)
    claim = api.get("pvc", "user-storage-alice", USERS)
    assert claim is not None
    assert "deletionTimestamp" not in claim["metadata"]
    api.run("delete", "namespace", USERS, WAIT)


def test_install_yaml_from_nothing_to_uninstalled(empty_cluster: Kubectl, releases: dict[str, Path], tmp_path: Path) -> None:
    installed = Installed(empty_cluster, "userstorage-system", tmp_path / "operator")
    images = {tag: f"registry.example.org/userstorage-operator:{tag}" for tag in releases}
    empty_cluster.run("apply", "-f", str(releases[VERSION] / "install.yaml"))
    empty_cluster.wait_established(*OWN_CRDS)
    installed.lead(installed.until_rolled_out(images[VERSION]))
    try:
        serve_alice(empty_cluster)
        pod = uid_of_the_pod(empty_cluster)
        # Upgraded, and rolled back by applying the older file.
        for tag in ("next", VERSION):
            empty_cluster.run("apply", "-f", str(releases[tag] / "install.yaml"))
            installed.lead(installed.until_rolled_out(images[tag]))
            assert empty_cluster.run("diff", "-f", str(releases[tag] / "install.yaml")).stdout == ""
            assert uid_of_the_pod(empty_cluster) == pod
    finally:
        installed.stop()
    # Uninstalled in the order of docs/install.md, by files of the release only.
    empty_cluster.run("delete", f"deployment/{DEPLOYMENT}", "-n", "userstorage-system", WAIT)
    empty_cluster.run("apply", "-f", str(releases[VERSION] / "uninstall.yaml"))
    [job] = [raw for raw in yaml.safe_load_all((releases[VERSION] / "uninstall.yaml").read_text()) if raw["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == images[VERSION]
    (tmp_path / "job").mkdir()
    account = job["spec"]["template"]["spec"]["serviceAccountName"]
    assert "users/alice released" in release_finalizers(log_in(empty_cluster, tmp_path / "job", account).kubeconfig)
    delete_users(empty_cluster)
    empty_cluster.run("delete", "--ignore-not-found", "-f", str(releases[VERSION] / "uninstall.yaml"), WAIT)
    empty_cluster.run("delete", "--ignore-not-found", "-f", str(releases[VERSION] / "install.yaml"), WAIT)
    expect_only_claims(empty_cluster)


def test_chart_from_nothing_to_uninstalled(empty_cluster: Kubectl, releases: dict[str, Path], tmp_path: Path) -> None:
    namespace = "storage"
    installed = Installed(empty_cluster, namespace, tmp_path / "operator")
    charts = {tag: str(next(path.glob("*.tgz"))) for tag, path in releases.items()}

    def release(command: str, *arguments: str) -> str:
        options = [f"--namespace={namespace}", f"--kubeconfig={empty_cluster.kubeconfig}"]
        return helm(command, "files", *arguments, *options)

    def settings() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(release("status", "-o=json"))["info"]
        return found

    waiting = ["--wait", "--timeout=10m"]
    release("install", charts[VERSION], "--create-namespace", *waiting)
    empty_cluster.run("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    empty_cluster.wait_established(*OWN_CRDS)
    installed.lead(installed.until_rolled_out(f"registry.example.org/userstorage-operator:{VERSION}"))
    try:
        serve_alice(empty_cluster)
        pod = uid_of_the_pod(empty_cluster)
        changed = ["--set=replicas=2", '--set-json=namespaces=["users"]', '--set-json=extraArgs=["--workers=8"]']
        release("upgrade", charts["next"], *changed, *waiting)
        container = installed.until_rolled_out("registry.example.org/userstorage-operator:next")
        assert {"name": "USERSTORAGE_RUN_NAMESPACES", "value": USERS} in container["env"]
        assert empty_cluster.get("rolebinding", DEPLOYMENT, USERS) is not None
        assert empty_cluster.run("get", "clusterrolebinding", DEPLOYMENT, check=False).returncode == 1
        installed.lead({"args": [*container["args"], f"--namespace={USERS}"]})
        eventually(lambda: empty_cluster.phase("alice", USERS) == "Ready")
        release("rollback", "1", *waiting)
        installed.lead(installed.until_rolled_out(f"registry.example.org/userstorage-operator:{VERSION}"))
        assert empty_cluster.get("rolebinding", DEPLOYMENT, USERS) is None
        assert settings()["status"] == "deployed"
        assert uid_of_the_pod(empty_cluster) == pod
    finally:
        installed.stop()
    # The CRDs, alice and her files outlive the release.
    release("uninstall", *waiting)
    for name in OWN_CRDS:
        empty_cluster.run("get", name)
    assert empty_cluster.phase("alice", USERS) == "Ready"
    assert uid_of_the_pod(empty_cluster) == pod
    # By a file of the release only, in which the namespace was replaced.
    job = (releases[VERSION] / "uninstall.yaml").read_text().replace("userstorage-system", namespace)
    empty_cluster.run("apply", "-f", "-", input=job)
    login = log_in(empty_cluster, tmp_path / "operator", "userstorage-release-finalizers", namespace)
    assert "users/alice released" in release_finalizers(login.kubeconfig)
    delete_users(empty_cluster)
    empty_cluster.run("delete", "--ignore-not-found", "-f", "-", WAIT, input=job)
    empty_cluster.run("delete", *OWN_CRDS, WAIT)
    expect_only_claims(empty_cluster, namespace)
    shutil.rmtree(tmp_path / "operator")
