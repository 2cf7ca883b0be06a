"""Every rule of the CRDs, checked with valid and invalid objects on the real API server."""

import uuid
from typing import Any

import pytest

from component import bad_class_inputs, bad_inputs
from support.apiproxy import ApiProxy, refusal
from support.kubectl import Kubectl
from support.manifests import Accepted, Change, Object, Refused, storage, storage_class, to_json


def named(row: Refused | Accepted | Change) -> str:
    return row.name


def create(api: ApiProxy, manifest: Object, *, dry_run: bool = True, validation: str = "Strict") -> Object:
    """Create an object and return it as the API server stored it, or would store it."""
    created = api.create(manifest, dry_run=dry_run, validation=validation)
    assert not refusal(created)
    return created


def refused(api: ApiProxy, manifest: Object) -> str:
    """Try to create an object that must be refused, and return the message."""
    answer = api.create(manifest, dry_run=True)
    message = refusal(answer)
    assert message, f"admitted: {answer}"
    return message


@pytest.mark.parametrize("row", bad_inputs.REFUSED, ids=named)
def test_invalid_user_storage_is_refused_with_its_message(api_proxy: ApiProxy, row: Refused) -> None:
    assert row.message in refused(api_proxy, storage("default", row.spec))


@pytest.mark.parametrize("row", bad_inputs.ACCEPTED, ids=named)
def test_valid_user_storage_is_admitted(api_proxy: ApiProxy, row: Accepted) -> None:
    create(api_proxy, storage("default", row.spec))


@pytest.mark.parametrize("row", bad_inputs.CHANGES, ids=named)
def test_user_storage_change_is_admitted_or_refused_as_listed(api_proxy: ApiProxy, row: Change) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    created = create(api_proxy, storage("default", row.before, name), dry_run=False)
    try:
        if row.status is not None:
            path = f"/apis/userstorage.dev/v1/namespaces/default/userstorages/{name}/status"
            assert not refusal(api_proxy.request("PATCH", path, {"status": row.status}))
        change(api_proxy, storage("default", row.after, name), row)
    finally:
        api_proxy.delete(created)


@pytest.mark.parametrize("row", bad_class_inputs.REFUSED, ids=named)
def test_invalid_class_is_refused_with_its_message(api_proxy: ApiProxy, row: Refused) -> None:
    assert row.message in refused(api_proxy, storage_class("candidate", row.spec))


@pytest.mark.parametrize("row", bad_class_inputs.ACCEPTED, ids=named)
def test_valid_class_is_admitted(api_proxy: ApiProxy, row: Accepted) -> None:
    create(api_proxy, storage_class("candidate", row.spec))


@pytest.mark.parametrize("row", bad_class_inputs.CHANGES, ids=named)
def test_class_change_is_admitted_or_refused_as_listed(api_proxy: ApiProxy, row: Change) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    created = create(api_proxy, storage_class(name, row.before), dry_run=False)
    try:
        change(api_proxy, storage_class(name, row.after), row)
    finally:
        api_proxy.delete(created)


def change(api: ApiProxy, manifest: Object, row: Change) -> None:
    """Replace the object, which must be admitted or refused as the row says."""
    message = refusal(api.replace(manifest))
    if row.message is None:
        assert not message
    else:
        assert row.message in message


@pytest.mark.parametrize("row", bad_inputs.PRUNED)
def test_unknown_field_is_dropped(api_proxy: ApiProxy, row: str) -> None:
    unknown = bad_inputs.PRUNED[row]
    sections: Object = {"scheduling": {}} if "scheduling" in unknown else {}
    plain = create(api_proxy, storage("default", {"userID": "alice"} | sections))
    given = create(api_proxy, storage("default", {"userID": "alice"} | unknown), validation="Ignore")
    assert given["spec"] == plain["spec"]


@pytest.mark.parametrize("row", bad_inputs.PRUNED)
def test_unknown_field_is_refused_by_strict_validation(api_proxy: ApiProxy, row: str) -> None:
    manifest = storage("default", {"userID": "alice"} | bad_inputs.PRUNED[row])
    assert 'unknown field "spec.' in refused(api_proxy, manifest)


def test_unknown_field_is_refused_by_kubectl(api: Kubectl) -> None:
    # kubectl asks for strict validation by default.
    manifest = storage("default", {"userID": "alice", "unknown": True})
    done = api.run("create", "--dry-run=server", "-f", "-", input=to_json(manifest), check=False)
    assert 'unknown field "spec.unknown"' in done.stderr


def test_duplicate_field_is_refused_by_strict_validation(api: Kubectl) -> None:
    # Row 45. kubectl itself keeps only the last of duplicate keys, so the request is sent raw.
    twice = to_json(storage("default", {"userID": "alice"})).replace('"userID"', '"userID": "bob", "userID"')
    path = "/apis/userstorage.dev/v1/namespaces/default/userstorages?dryRun=All&fieldValidation=Strict"
    done = api.run("create", "--raw", path, "-f", "-", input=twice, check=False)
    assert done.returncode != 0
    assert 'duplicate field "spec.userID"' in done.stderr


def test_user_id_is_the_only_required_field(api_proxy: ApiProxy) -> None:
    assert create(api_proxy, storage("default", {"userID": "alice"}))["spec"] == {
        "userID": "alice",
        "replicas": 1,
        "storage": {"readOnly": False, "reclaimPolicy": "Retain"},
        "lifecycle": {
            "startTimeout": "5m",
            "deletionTimeout": "10m",
            "terminationGracePeriodSeconds": 30,
            "updateStrategy": "Immediate",
        },
    }


def test_partial_section_keeps_other_defaults(api_proxy: ApiProxy) -> None:
    spec = {"userID": "alice", "storage": {"size": "1Gi"}, "lifecycle": {"startTimeout": "1m"}}
    found = create(api_proxy, storage("default", spec))["spec"]
    assert found["storage"] == {"size": "1Gi", "readOnly": False, "reclaimPolicy": "Retain"}
    assert found["lifecycle"]["deletionTimeout"] == "10m"


def test_class_gets_the_documented_defaults(api_proxy: ApiProxy) -> None:
    assert create(api_proxy, storage_class("candidate", {}))["spec"] == {
        "browser": {
            "flavor": "Copyparty",
            "port": 8080,
            "basePath": "/",
            "permissions": {
                "create": True,
                "modify": True,
                "rename": True,
                "delete": True,
                "download": True,
                "share": False,
            },
        },
        "storage": {"accessModes": ["ReadWriteOnce"], "defaultSize": "10Gi", "onClaimLoss": "Recreate"},
        "auth": {"mode": "ProxyHeader", "headerName": "X-Forwarded-User", "acknowledgeUnauthenticated": False},
        "network": {"expose": "ClusterIP", "policy": "Managed"},
        "security": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        "rollout": {"maxUnavailable": "10%", "paused": False},
    }


@pytest.mark.parametrize("name", ["a" * 253, "alice.example.org", "7-of-nine"], ids=["253", "dots", "digit"])
def test_any_object_name_is_admitted(api_proxy: ApiProxy, name: str) -> None:
    # Row 14: children are named after the slug.
    create(api_proxy, storage("default", {"userID": "alice"}, name=name))


def test_generated_names_are_unique(api_proxy: ApiProxy, namespace: str) -> None:
    # Row 15.
    manifest = storage(namespace, {"userID": "alice"})
    del manifest["metadata"]["name"]
    manifest["metadata"]["generateName"] = "user-"
    names = {create(api_proxy, manifest, dry_run=False)["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2


@pytest.mark.parametrize("name", ["a.b", "a" * 64], ids=["dot", "64"])
def test_class_name_must_be_a_dns_label(api_proxy: ApiProxy, name: str) -> None:
    assert "metadata.name" in refused(api_proxy, storage_class(name, {}))


@pytest.mark.parametrize(
    ("metadata", "survives"),
    [
        ({"finalizers": ["userstorage.dev/pod-gone"]}, True),
        ({"deletionTimestamp": "2020-01-01T00:00:00Z"}, False),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}, True),
    ],
    ids=["56 finalizer", "57 deletionTimestamp", "54 owner"],
)
def test_metadata_set_by_tenant_is_kept_or_ignored_as_listed(
    api_proxy: ApiProxy, metadata: dict[str, Any], survives: bool
) -> None:
    manifest = storage("default", {"userID": "alice"})
    manifest["metadata"] |= metadata
    created = create(api_proxy, manifest)["metadata"]
    assert all((key in created) is survives for key in metadata)


@pytest.mark.parametrize(("size", "fits"), [(255, True), (300, False)])
def test_annotations_above_256_kib_are_refused(api_proxy: ApiProxy, size: int, fits: bool) -> None:
    # Row 52: Kubernetes' own limit of 256 KiB.
    manifest = storage("default", {"userID": "alice"})
    manifest["metadata"]["annotations"] = {"note": "x" * size * 1024}
    if fits:
        create(api_proxy, manifest)
    else:
        assert "metadata.annotations: Too long" in refused(api_proxy, manifest)
