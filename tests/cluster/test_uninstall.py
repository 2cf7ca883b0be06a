"""The complete uninstallation of docs/install.md, on a separate cluster: nothing is left terminating."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, install_manifests
from support.kubectl import COMMAND_TIMEOUT, PATIENCE, WAIT, Kubectl, eventually
from support.operator_account import SYSTEM, log_in, requests
from support.operator_process import PROGRAM, OperatorProcess
from support.plugin import Plugin
from support.released import VERSIONS, ReleasedObjects, pods
from support.rights import Right, rights_of

pytestmark = [pytest.mark.kwok]

UNINSTALL = ROOT / "deploy/uninstall"
ACCOUNT = "userstorage-release-finalizers"
USERS = "users"


@pytest.fixture
def own_cluster(empty_cluster: Kubectl) -> Kubectl:
    """A separate cluster, as the test deletes CRDs that other tests of the worker need."""
    return install_manifests(empty_cluster)


def test_documented_uninstall_removes_everything_but_claims(own_cluster: Kubectl, tmp_path: Path) -> None:
    own_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": USERS}})
    own_cluster.run("apply", "-k", str(ROOT / "deploy/gate"))
    ReleasedObjects(VERSIONS[-1]).create_in(own_cluster, USERS)
    (tmp_path / "operator").mkdir()
    operator = OperatorProcess(log_in(own_cluster, tmp_path / "operator").kubeconfig, tmp_path / "log")
    operator.start()
    eventually(lambda: own_cluster.phase("alice", USERS) == "Ready")
    # Some users are deleted while the operator runs. Once it has stopped, only the Job can remove finalizers.
    own_cluster.run("delete", "us", "alice", "-n", USERS)
    assert "user-storage-alice" not in pods(own_cluster, USERS)
    # The garbage collector discovers new kinds every 30 s; once the CRD is deleted it could no longer discover our kinds.
    eventually(lambda: own_cluster.get("service", "user-storage-alice", USERS) is None)
    operator.stop()
    [bob] = [name for name in pods(own_cluster, USERS) if name.startswith("user-storage-bob")]
    own_cluster.run("delete", "us", "bob", "-n", USERS, "--wait=false", "--cascade=foreground")
    assert own_cluster.get("us", "bob", USERS) is not None
    eventually(lambda: pods(own_cluster, USERS).get(bob) is None)
    policy = own_cluster.get("networkpolicy", bob, USERS)
    assert policy is not None
    assert "deletionTimestamp" in policy["metadata"]  # held until its pod is gone, which no operator sees
    release(own_cluster, tmp_path)
    eventually(lambda: own_cluster.get("us", "bob", USERS) is None)
    own_cluster.run("delete", "us", "--all", "--all-namespaces", WAIT)
    for part in ("finalizer", "uninstall", "gate", "volume-stats", "owner-references", "admission", "crds", "rbac"):
        own_cluster.run("delete", "--ignore-not-found", "-k", str(ROOT / "deploy" / part), WAIT)
    assert (
        "userstorage"
        not in own_cluster.run("get", "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy", "-o", "name").stdout
    )
    assert not own_cluster.run("get", "namespace", SYSTEM, "--ignore-not-found").stdout
    # The garbage collector deletes the rest but claims and NetworkPolicies, which outlive the pods.
    for kind in ("pods", "services", "ingresses"):
        eventually(lambda kind=kind: not own_cluster.list_all(kind, USERS))  # type: ignore[misc]
    assert not [raw for raw in own_cluster.list_all("networkpolicies", USERS) if "finalizers" in raw["metadata"]]
    own_cluster.run("delete", "networkpolicies", "-A", "-l", "userstorage.dev/managed-by=userstorage-operator", WAIT)
    kept = {raw["metadata"]["name"] for raw in own_cluster.list_all("pvc", USERS)}
    assert {"user-storage-alice", "user-storage-carol", "shared"} <= kept
    assert any(name.startswith("user-storage-bob") for name in kept)
    own_cluster.run("delete", "namespace", USERS, WAIT)


def release(api: Kubectl, tmp_path: Path) -> None:
    """Run the Job's command with the Job's account, as these nodes execute no containers; check that it uses all its rights."""
    api.run("apply", "-k", str(UNINSTALL))
    job = yaml.safe_load((UNINSTALL / "job.yaml").read_text())["spec"]["template"]["spec"]
    assert job["serviceAccountName"] == ACCOUNT
    [container] = job["containers"]
    (tmp_path / "job").mkdir()
    login = log_in(api, tmp_path / "job", ACCOUNT)
    environment = {**os.environ, "KUBECONFIG": str(login.kubeconfig)}
    done = subprocess.run(
        [PROGRAM, *container["args"]], env=environment, capture_output=True, text=True, check=True, timeout=COMMAND_TIMEOUT
    )
    released = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("userstorage ")]
    assert sorted(released) == [f"{USERS}/{name}" for name in ("bob", "carol", "dave", "erin")]
    rules = [raw for raw in yaml.safe_load_all((UNINSTALL / "rights.yaml").read_text()) if raw["kind"] == "ClusterRole"]
    used = {Right(request.group, request.resource, request.verb) for request in requests(api, login.credential)}
    checked_by_admission = Right("networking.k8s.io", "networkpolicies", "delete")  # to remove the owner; nothing is deleted
    assert used == set(rights_of(rules[0]["rules"])) - {checked_by_admission}
    # The Job's pod must be admitted in its namespace, which enforces `restricted`; it is not executed here.
    eventually(lambda: [raw for raw in api.list_all("pods", SYSTEM) if raw["metadata"]["labels"].get("job-name")])


def test_verb_uninstalls_everything_but_claims_and_continues_after_a_kill(own_cluster: Kubectl, tmp_path: Path) -> None:
    api, plugin = own_cluster, Plugin(own_cluster.kubeconfig, USERS)
    for part in (".", "gate", "finalizer", "volume-stats", "owner-references"):
        api.run("apply", "-k", str(ROOT / "deploy" / part))
    # As Helm records a release.
    api.run("annotate", "deployment/userstorage-operator", "-n", SYSTEM, "meta.helm.sh/release-name=files")
    api.run("create", "secret", "generic", "sh.helm.release.v1.files.v1", "-n", SYSTEM)
    api.run("label", "secret/sh.helm.release.v1.files.v1", "-n", SYSTEM, "owner=helm", "name=files")
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": USERS}})
    for name, storage in (("alice", {}), ("bob", {"reclaimPolicy": "Delete"})):
        metadata = {"name": name, "namespace": USERS}
        spec = {"userID": name, "storage": storage}
        api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": spec})
    operator = OperatorProcess(
        log_in(api, tmp_path).kubeconfig, tmp_path / "log", "--leader-elect", f"--lease-namespace={SYSTEM}"
    )
    operator.start()
    try:
        eventually(lambda: all(api.phase(name, USERS) == "Ready" for name in ("alice", "bob")))
        shown = plugin.anywhere("uninstall", "--delete-userstorages")
        assert shown.returncode == 0, shown.stderr
        assert f"deleted first, with their pods: 2 UserStorages: {USERS}/alice, {USERS}/bob" in shown.stdout
        assert f"deleted with their files, by reclaimPolicy Delete: 1 claim: {USERS}/user-storage-bob" in shown.stdout
        assert f"kept: 1 claim: {USERS}/user-storage-alice" in shown.stdout
        assert "deleted: secret/sh.helm.release.v1.files.v1" in shown.stdout
        assert plugin.anywhere("uninstall", "--yes").returncode == 1
        assert api.phase("alice", USERS) == "Ready"
        for is_reached in (
            lambda: (
                any("deletionTimestamp" in raw["metadata"] for raw in api.list_all("us", USERS))
                or not api.list_all("us", USERS)
            ),
            lambda: api.get("deployment", "userstorage-operator", SYSTEM) is None,
        ):
            process = plugin.start_anywhere("uninstall", "--delete-userstorages", "--yes")
            eventually(is_reached)
            process.kill()
            process.communicate()
    finally:
        operator.stop()
    done = plugin.anywhere("uninstall", "--yes", f"--timeout={PATIENCE:.0f}s")
    assert done.returncode == 0, done.stderr
    assert "namespace/userstorage-system deleted" in done.stdout
    assert f"kept: 1 claim: {USERS}/user-storage-alice" in done.stderr
    expect_nothing_but_claims(api)
    assert [raw["metadata"]["name"] for raw in api.list_all("pvc", USERS)] == ["user-storage-alice"]
    again = plugin.anywhere("uninstall", "--yes")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr.splitlines()[0] == "nothing of UserStorage is installed"
    api.run("delete", "namespace", USERS, WAIT)


def test_verb_uninstalls_what_an_operator_left_that_is_gone(own_cluster: Kubectl) -> None:
    api, plugin = own_cluster, Plugin(own_cluster.kubeconfig, USERS)
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": USERS}})
    ReleasedObjects(VERSIONS[-1]).create_in(api, USERS)
    claims = {raw["metadata"]["uid"] for raw in api.list_all("pvc", USERS)}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "files", "namespace": SYSTEM}
    api.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    # One is being deleted, and its NetworkPolicy too: nothing but the verb removes the finalizers.
    api.run("delete", "us", "bob", "-n", USERS, "--wait=false", "--cascade=foreground")
    done = plugin.anywhere("uninstall", "--delete-userstorages", "--yes", f"--timeout={PATIENCE:.0f}s")
    assert done.returncode == 0, done.stderr
    assert "kept: namespace/userstorage-system: there are claims in it" in done.stderr
    api.run("delete", "namespace", SYSTEM, WAIT)
    expect_nothing_but_claims(api)
    assert {raw["metadata"]["uid"] for raw in api.list_all("pvc", USERS)} == claims
    api.run("delete", "namespace", USERS, WAIT)


def expect_nothing_but_claims(api: Kubectl) -> None:
    kinds = "crd,clusterrole,clusterrolebinding,validatingadmissionpolicy,mutatingadmissionpolicy,namespace"
    assert "userstorage" not in api.run("get", kinds, "-o", "name").stdout
    children = "pods,services,ingresses,networkpolicies,rolebindings"
    assert "userstorage" not in api.run("get", children, "--all-namespaces", "-o", "name").stdout.replace(
        "user-storage", "userstorage"
    )
