"""`release-finalizers` unblocks the deletion of objects after the operator is gone."""

import json
import os
import subprocess
from typing import Any

import pytest

from support.kubectl import Kubectl, eventually
from support.operator_process import PROGRAM

OURS = "userstorage.dev/pod-gone"
RESTRICTED = {
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "user-storage-bob",
                "image": "example.org/x:1",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
}
"""What a pod needs to be admitted in the namespaces of tests."""


def release(api: Kubectl, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KUBECONFIG": str(api.kubeconfig)}
    command = [PROGRAM, "release-finalizers", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def left_behind(api: Kubectl, namespace: str) -> list[str]:
    """Create three users: one as the operator leaves it, one with a finalizer of another controller too, one never reconciled."""
    finalizers = {"alice": [OURS], "bob": ["example.com/backup", OURS], "carol": []}
    for name, held_by in finalizers.items():
        metadata = {"name": name, "namespace": namespace, "finalizers": held_by}
        api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": {"userID": name}})
    return list(finalizers)


def held(api: Kubectl, namespace: str) -> dict[str, list[str]]:
    found = api.list_all("userstorages", namespace)
    return {raw["metadata"]["name"]: raw["metadata"].get("finalizers", []) for raw in found}


def test_objects_can_be_deleted_after_their_finalizers_are_released(
    api: Kubectl, namespace: str, left_behind: list[str]
) -> None:
    api.delete("us", "alice", namespace=namespace)
    assert "alice" in held(api, namespace)  # without the operator, its finalizer blocks the deletion
    done = release(api, f"--namespace={namespace}")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == [
        f"userstorage {namespace}/alice released",
        f"userstorage {namespace}/bob released",
    ]
    assert held(api, namespace) == {"bob": ["example.com/backup"], "carol": []}
    assert release(api, f"--namespace={namespace}").stdout == ""
    api.run("patch", "us", "bob", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    api.delete("namespace", namespace)
    eventually(lambda: not api.run("get", "namespace", namespace, "--ignore-not-found").stdout)


def policy(name: str, namespace: str, **meta: Any) -> dict[str, Any]:
    labels = {"userstorage.dev/managed-by": "userstorage-operator"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "finalizers": [OURS], **meta},
        "spec": {"podSelector": {"matchLabels": {"userId": name}}},
    }


def test_released_policies_outlive_the_pods(api: Kubectl, namespace: str, left_behind: list[str]) -> None:
    alice = api.get("us", "alice", namespace)
    assert alice is not None
    owner = {key: alice[key] for key in ("apiVersion", "kind")} | {key: alice["metadata"][key] for key in ("name", "uid")}
    owned = {"ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}]}
    api.apply(policy("user-storage-alice", namespace, **owned), policy("user-storage-bob", namespace))
    api.run("run", "user-storage-bob", "--image=example.org/x:1", "-n", namespace, f"--overrides={json.dumps(RESTRICTED)}")
    api.delete("networkpolicy", "user-storage-bob", namespace=namespace)
    done = release(api, f"--namespace={namespace}")
    assert done.returncode == 1
    assert f"networkpolicy {namespace}/user-storage-bob not released: its pod still exists" in done.stderr
    assert f"networkpolicy {namespace}/user-storage-alice released" in done.stdout
    released = api.get("networkpolicy", "user-storage-alice", namespace)
    assert released is not None
    assert not released["metadata"].keys() & {"ownerReferences", "finalizers", "deletionTimestamp"}
    assert api.get("networkpolicy", "user-storage-bob", namespace) is not None
    api.run("delete", "pod", "user-storage-bob", "-n", namespace)
    assert release(api, f"--namespace={namespace}").returncode == 0
    assert api.get("networkpolicy", "user-storage-bob", namespace) is None
    api.run("patch", "us", "bob", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


def test_objects_that_cannot_be_released_are_named_and_fail_the_command(
    api: Kubectl, namespace: str, left_behind: list[str]
) -> None:
    """Deny the update by an admission policy, as for a caller without the right to update."""
    policy = f"keep-{namespace}"
    api.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": policy},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "resourceRules": [
                        {
                            "apiGroups": ["userstorage.dev"],
                            "apiVersions": ["v1"],
                            "operations": ["UPDATE"],
                            "resources": ["userstorages"],
                        }
                    ],
                },
                "validations": [{"expression": "object.metadata.name != 'alice'", "message": "alice stays as she is"}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": policy},
            "spec": {"policyName": policy, "validationActions": ["Deny"]},
        },
    )
    touch = ["annotate", "us", "alice", "-n", namespace, "--overwrite", "--dry-run=server", "touched=yes"]
    try:
        eventually(lambda: api.run(*touch, check=False).returncode != 0)
        done = release(api, f"--namespace={namespace}")
    finally:
        api.run("delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", policy)
    assert done.returncode == 1
    assert f"userstorage {namespace}/alice not released" in done.stderr
    assert "alice stays as she is" in done.stderr
    assert done.stdout.splitlines() == [f"userstorage {namespace}/bob released"]
    eventually(lambda: api.run(*touch, check=False).returncode == 0)  # the end of a policy takes effect with a delay too
    assert release(api, f"--namespace={namespace}").returncode == 0
    api.run("patch", "us", "bob", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
