"""The complete uninstallation of docs/install.md, on a separate cluster: nothing is left terminating."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, install_manifests
from support.kubectl import COMMAND_TIMEOUT, WAIT, Kubectl, eventually
from support.operator_account import SYSTEM, log_in, requests
from support.operator_process import PROGRAM, OperatorProcess
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
