"""The CRDs' subresources, field selectors and printer columns on the real API server."""

import json

import pytest

from support.kubectl import Kubectl
from support.manifests import Object, storage, to_json

STATUS: Object = {
    "observedGeneration": 1,
    "phase": "Ready",
    "replicas": 1,
    "selector": "app=filebrowser,userId=alice",
    "slug": "alice",
    "podName": "user-storage-alice",
    "podUID": "9d1e6f3c-0000-4000-8000-000000000000",
    "serviceName": "user-storage-alice",
    "url": "http://user-storage-alice.example.svc/",
    "nodeName": "node-1",
    "image": "docker.io/example/browser:v1",
    "appliedHash": "0123456789abcdef",
    "restartCount": 0,
    "readyTime": "2026-01-01T00:00:02Z",
    "startupSeconds": 2,
    "storage": {
        "claimName": "user-storage-alice",
        "claimPhase": "Bound",
        "capacity": "10Gi",
        "used": "3687Mi",
        "usedPercent": 36,
        "requested": "10Gi",
        "resize": "InProgress",
    },
    "lastError": {
        "reason": "QuotaExceeded",
        "message": "exceeded quota",
        "time": "2026-01-01T00:00:01Z",
        "attempts": 3,
        "nextRetryTime": "2026-01-01T00:01:00Z",
    },
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:02Z",
            "reason": "PodReady",
            "message": "the browser answers",
        }
    ],
}
"""Every field that the operator may report."""


@pytest.fixture
def alice(api: Kubectl, namespace: str) -> list[str]:
    """kubectl arguments that name a new UserStorage."""
    api.run("create", "-f", "-", input=to_json(storage(namespace, {"userID": "alice"}, name="alice")))
    return ["userstorage", "alice", "-n", namespace]


def read(api: Kubectl, alice: list[str]) -> Object:
    found: Object = json.loads(api.run("get", *alice, "-o", "json").stdout)
    return found


def patch_status(api: Kubectl, alice: list[str], status: Object) -> None:
    """Write the status as the operator does."""
    api.run("patch", *alice, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))


def test_new_object_has_pending_status(api: Kubectl, alice: list[str]) -> None:
    status = read(api, alice)["status"]
    assert status["phase"] == "Pending"
    assert [(entry["type"], entry["status"], entry["reason"]) for entry in status["conditions"]] == [
        ("Ready", "Unknown", "Pending"),
        ("Reconciling", "True", "Pending"),
    ]


def test_every_status_field_is_stored(api: Kubectl, alice: list[str]) -> None:
    patch_status(api, alice, STATUS)
    assert read(api, alice)["status"] == STATUS


def test_status_set_by_tenant_is_ignored(api: Kubectl, namespace: str) -> None:
    # Row 48.
    forged = storage(namespace, {"userID": "alice"}, name="alice") | {"status": STATUS}
    api.run("create", "-f", "-", input=to_json(forged))
    api.run("replace", "-f", "-", input=to_json(forged))
    assert read(api, ["userstorage", "alice", "-n", namespace])["status"]["phase"] == "Pending"


def test_kubectl_scale_sets_replicas_to_zero_or_one_only(api: Kubectl, alice: list[str]) -> None:
    for replicas in (0, 1):
        api.run("scale", *alice, f"--replicas={replicas}")
        assert read(api, alice)["spec"]["replicas"] == replicas
    refused = api.run("scale", *alice, "--replicas=2", check=False)
    assert refused.returncode != 0
    assert "spec.replicas: Invalid value" in refused.stderr


def test_scale_reports_replicas_and_selector(api: Kubectl, alice: list[str]) -> None:
    patch_status(api, alice, STATUS)
    scale = json.loads(api.run("get", *alice, "--subresource=scale", "-o", "json").stdout)
    assert scale["status"] == {"replicas": 1, "selector": "app=filebrowser,userId=alice"}


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("spec.userID=alice", True),
        ("spec.userID=bob", False),
        ("status.phase=Pending", True),
        ("status.phase=Ready", False),
    ],
)
@pytest.mark.usefixtures("alice")
def test_field_selectors_match(api: Kubectl, namespace: str, selector: str, found: bool) -> None:
    names = api.run("get", "us", "-n", namespace, f"--field-selector={selector}", "-o", "name").stdout
    assert ("userstorage.userstorage.dev/alice" in names) is found


def test_kubectl_get_shows_the_columns_of_a_storage(api: Kubectl, namespace: str, alice: list[str]) -> None:
    patch_status(api, alice, STATUS)
    header, row = api.run("get", "us", "-n", namespace, "-o", "wide").stdout.splitlines()
    assert header.split() == [
        "NAME",
        "USER",
        "PHASE",
        "READY",
        "REASON",
        "CAPACITY",
        "AGE",
        "URL",
        "NODE",
        "CLAIM",
        "USED%",
        "CLASS",
        "PAUSED",
    ]
    assert row.split()[:6] == ["alice", "alice", "Ready", "True", "PodReady", "10Gi"]


def test_kubectl_get_shows_the_columns_of_a_class(api: Kubectl, namespace: str) -> None:
    manifest = {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorageClass",
        "metadata": {"name": namespace, "annotations": {"userstorage.dev/is-default-class": "true"}},
        "spec": {},
    }
    api.run("create", "-f", "-", input=to_json(manifest))
    try:
        status = {"observedGeneration": 1, "users": 7, "updated": 5, "pending": 1, "failed": 1}
        name = ["usc", namespace]
        api.run("patch", *name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
        header, row = api.run("get", *name).stdout.splitlines()
    finally:
        api.delete("usc", namespace)
    assert header.split() == ["NAME", "FLAVOR", "DEFAULT", "USERS", "UPDATED", "AGE"]
    assert row.split()[1:5] == ["Copyparty", "true", "7", "5"]


def test_storages_are_listed_in_their_own_category_only(api: Kubectl, namespace: str, alice: list[str]) -> None:
    assert "alice" not in api.run("get", "all", "-n", namespace).stdout
    assert "userstorage.userstorage.dev/alice" in api.run("get", "userstorage-all", "-n", namespace, "-o", "name").stdout
    assert read(api, alice)["metadata"]["name"] == "alice"
