"""Every rule of the CRDs, checked with valid and invalid objects on the real API server."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from component import bad_class_inputs, bad_inputs
from support.kubectl import Kubectl
from support.manifests import Accepted, Change, Object, Refused, storage, storage_class, to_json

DRY = "--dry-run=server"
"""Validate without storing, for tests that need no object afterwards."""
TRY = ("create", DRY, "-f", "-")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def named(row: Refused | Accepted | Change) -> str:
    return row.name


def create(api: Kubectl, manifest: Object, *flags: str) -> Object:
    """Create an object and return it as the API server stored it."""
    created: Object = json.loads(api.run("create", "-f", "-", "-o", "json", *flags, input=to_json(manifest)).stdout)
    return created


def refusal(api: Kubectl, *args: str, manifest: Object | None = None) -> str:
    """Run a command that must fail, and return its error."""
    done = api.run(*args, input=None if manifest is None else to_json(manifest), check=False)
    assert done.returncode != 0, f"admitted: {done.stdout}"
    return done.stderr


@pytest.mark.parametrize("row", bad_inputs.REFUSED, ids=named)
def test_invalid_user_storage_is_refused_with_its_message(api: Kubectl, row: Refused) -> None:
    assert row.message in refusal(api, *TRY, manifest=storage("default", row.spec))


@pytest.mark.parametrize("row", bad_inputs.ACCEPTED, ids=named)
def test_valid_user_storage_is_admitted(api: Kubectl, row: Accepted) -> None:
    api.run(*TRY, input=to_json(storage("default", row.spec)))


@pytest.mark.parametrize("row", bad_inputs.CHANGES, ids=named)
def test_user_storage_change_is_admitted_or_refused_as_listed(api: Kubectl, namespace: str, row: Change) -> None:
    create(api, storage(namespace, row.before))
    if row.status is not None:
        status = json.dumps({"status": row.status})
        api.run("patch", "us", "candidate", "-n", namespace, "--subresource=status", "--type=merge", "-p", status)
    change(api, storage(namespace, row.after), row)


@pytest.mark.parametrize("row", bad_class_inputs.REFUSED, ids=named)
def test_invalid_class_is_refused_with_its_message(api: Kubectl, row: Refused) -> None:
    assert row.message in refusal(api, *TRY, manifest=storage_class("candidate", row.spec))


@pytest.mark.parametrize("row", bad_class_inputs.ACCEPTED, ids=named)
def test_valid_class_is_admitted(api: Kubectl, row: Accepted) -> None:
    api.run(*TRY, input=to_json(storage_class("candidate", row.spec)))


@pytest.mark.parametrize("row", bad_class_inputs.CHANGES, ids=named)
def test_class_change_is_admitted_or_refused_as_listed(api: Kubectl, namespace: str, row: Change) -> None:
    create(api, storage_class(namespace, row.before))  # the namespace's name is free for a class as well
    try:
        change(api, storage_class(namespace, row.after), row)
    finally:
        api.run("delete", "userstorageclass", namespace)


def change(api: Kubectl, manifest: Object, row: Change) -> None:
    """Replace the object, which must be admitted or refused as the row says.

    Unlike a patch, this also removes fields that `manifest` lacks.
    """
    if row.message is None:
        api.run("replace", "-f", "-", input=to_json(manifest))
    else:
        assert row.message in refusal(api, "replace", "-f", "-", manifest=manifest)


@pytest.mark.parametrize("row", bad_inputs.PRUNED)
def test_unknown_field_is_dropped(api: Kubectl, row: str) -> None:
    unknown = bad_inputs.PRUNED[row]
    sections: Object = {"scheduling": {}} if "scheduling" in unknown else {}
    plain = create(api, storage("default", {"userID": "alice"} | sections), DRY)
    given = create(api, storage("default", {"userID": "alice"} | unknown), DRY, "--validate=ignore")
    assert given["spec"] == plain["spec"]


@pytest.mark.parametrize("row", bad_inputs.PRUNED)
def test_unknown_field_is_refused_by_kubectl(api: Kubectl, row: str) -> None:
    # kubectl asks for strict validation by default.
    manifest = storage("default", {"userID": "alice"} | bad_inputs.PRUNED[row])
    assert 'unknown field "spec.' in refusal(api, *TRY, manifest=manifest)


def test_duplicate_field_is_refused_by_strict_validation(api: Kubectl) -> None:
    # Row 45. kubectl itself keeps only the last of duplicate keys, so the request is sent raw.
    twice = to_json(storage("default", {"userID": "alice"})).replace('"userID"', '"userID": "bob", "userID"')
    path = "/apis/userstorage.dev/v1/namespaces/default/userstorages?dryRun=All&fieldValidation=Strict"
    done = api.run("create", "--raw", path, "-f", "-", input=twice, check=False)
    assert done.returncode != 0
    assert 'duplicate field "spec.userID"' in done.stderr


def test_user_id_is_the_only_required_field(api: Kubectl) -> None:
    assert create(api, storage("default", {"userID": "alice"}), DRY)["spec"] == {
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


def test_partial_section_keeps_other_defaults(api: Kubectl) -> None:
    spec = {"userID": "alice", "storage": {"size": "1Gi"}, "lifecycle": {"startTimeout": "1m"}}
    found = create(api, storage("default", spec), DRY)["spec"]
    assert found["storage"] == {"size": "1Gi", "readOnly": False, "reclaimPolicy": "Retain"}
    assert found["lifecycle"]["deletionTimeout"] == "10m"


def test_class_gets_the_documented_defaults(api: Kubectl) -> None:
    assert create(api, storage_class("candidate", {}), DRY)["spec"] == {
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
def test_any_object_name_is_admitted(api: Kubectl, name: str) -> None:
    # Row 14: children are named after the slug.
    api.run(*TRY, input=to_json(storage("default", {"userID": "alice"}, name=name)))


def test_generated_names_are_unique(api: Kubectl, namespace: str) -> None:
    # Row 15.
    manifest = storage(namespace, {"userID": "alice"})
    del manifest["metadata"]["name"]
    manifest["metadata"]["generateName"] = "user-"
    names = {create(api, manifest)["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2


@pytest.mark.parametrize("name", ["a.b", "a" * 64], ids=["dot", "64"])
def test_class_name_must_be_a_dns_label(api: Kubectl, name: str) -> None:
    assert "metadata.name" in refusal(api, *TRY, manifest=storage_class(name, {}))


@pytest.mark.parametrize(
    ("metadata", "survives"),
    [
        ({"finalizers": ["userstorage.dev/pod-gone"]}, True),
        ({"deletionTimestamp": "2020-01-01T00:00:00Z"}, False),
        ({"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}, True),
    ],
    ids=["56 finalizer", "57 deletionTimestamp", "54 owner"],
)
def test_metadata_set_by_tenant_is_kept_or_ignored_as_listed(api: Kubectl, metadata: dict[str, Any], survives: bool) -> None:
    manifest = storage("default", {"userID": "alice"})
    manifest["metadata"] |= metadata
    created = create(api, manifest, DRY)["metadata"]
    assert all((key in created) is survives for key in metadata)


@pytest.mark.parametrize(("size", "fits"), [(255, True), (300, False)])
def test_annotations_above_256_kib_are_refused(api: Kubectl, size: int, fits: bool) -> None:
    # Row 52: Kubernetes' own limit of 256 KiB.
    manifest = storage("default", {"userID": "alice"})
    manifest["metadata"]["annotations"] = {"note": "x" * size * 1024}
    if fits:
        api.run(*TRY, input=to_json(manifest))
    else:
        assert "metadata.annotations: Too long" in refusal(api, *TRY, manifest=manifest)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("userstorage*.yaml")), ids=lambda path: path.stem)
def test_examples_are_admitted(api: Kubectl, example: Path) -> None:
    api.run("create", DRY, "--validate=strict", "-f", str(example))


def of_gateways(*kinds: str) -> list[Any]:
    """Return the objects of these kinds in the examples for gateways, as parameters."""
    read = [yaml.safe_load_all(path.read_text()) for path in sorted((EXAMPLES / "gateways").glob("*.yaml"))]
    found = [manifest for documents in read for manifest in documents if manifest.get("kind") in kinds]
    return [pytest.param(manifest, id=f"{manifest['kind']}-{manifest['metadata']['name']}") for manifest in found]


@pytest.mark.parametrize("manifest", of_gateways("UserStorageClass"))
def test_classes_of_gateways_are_admitted(api: Kubectl, manifest: Object) -> None:
    api.run("create", DRY, "--validate=strict", "-f", "-", input=to_json(manifest))


@pytest.mark.parametrize("manifest", of_gateways("UserStorage", "Deployment", "Service"))
def test_objects_of_gateways_are_admitted(api: Kubectl, namespace: str, manifest: Object) -> None:
    moved = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    api.run("create", DRY, "--validate=strict", "-f", "-", input=to_json(moved))
