import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import ALLOWING, desired_of, dufs_class, storage_object, stored
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan.diff import (
    child_patch,
    claim_patch,
    claim_resize,
    labels_patch,
    metadata_patch,
    spec_edited_by_hand,
    with_owner,
    without_owner,
)
from userstorage_operator.plan.exposure import HostPath, served_host


def apply_merge_patch(target: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386) as the API server does."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = apply_merge_patch(result.get(key), value)
    return result


def service() -> tuple[Unstructured, Unstructured]:
    desired = desired_of(storage_object()).service
    return desired, stored(desired)


def test_created_objects_need_no_repair() -> None:
    desired = desired_of(storage_object())
    assert desired.network_policy is not None
    assert child_patch(desired.network_policy, stored(desired.network_policy)) == {}
    assert child_patch(desired.service, stored(desired.service)) == {}


def test_fields_set_by_api_server_are_kept() -> None:
    desired, live = service()
    live["spec"] |= {"clusterIP": "10.0.0.1", "sessionAffinity": "None", "ipFamilies": ["IPv4"]}
    live["metadata"]["labels"] = live["metadata"]["labels"] | {"team": "blue"}
    assert child_patch(desired, live) == {}


def test_extra_selector_label_is_removed() -> None:
    desired, live = service()
    live["spec"]["selector"] = live["spec"]["selector"] | {"color": "blue"}
    assert child_patch(desired, live) == {"spec": {"selector": {"color": None}}}


def test_extra_external_ip_is_removed() -> None:
    desired, live = service()
    live["spec"]["externalIPs"] = ["192.0.2.1"]
    assert child_patch(desired, live) == {"spec": {"externalIPs": None}}


def test_weakened_network_policy_is_repaired() -> None:
    desired = desired_of(storage_object()).network_policy
    assert desired is not None
    opened, blinded = stored(desired), stored(desired)
    opened["spec"]["egress"] = [{}]
    blinded["spec"]["podSelector"] = blinded["spec"]["podSelector"] | {
        "matchExpressions": [{"key": "no", "operator": "Exists"}]
    }
    assert child_patch(desired, opened) == {"spec": {"egress": None}}
    assert child_patch(desired, blinded) == {"spec": {"podSelector": {"matchExpressions": None}}}


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.integers(0, 3), st.text("ab", max_size=2), st.just({"x": "y"}), st.just([])
)
PATHS = st.sampled_from(
    [
        ("spec", "type"),
        ("spec", "selector"),
        ("spec", "ports"),
        ("metadata", "labels", "app"),
        ("metadata", "annotations"),
        ("spec", "selector", "userstorage.dev/slug"),
    ]
)


@given(PATHS, VALUES)
def test_any_damage_is_repaired_by_one_patch(path: tuple[str, ...], value: Any) -> None:
    desired, live = service()
    damaged = copy.deepcopy(live)
    inner = damaged
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        inner.pop(path[-1])
    else:
        inner[path[-1]] = value
    repaired = apply_merge_patch(damaged, child_patch(desired, damaged))
    assert child_patch(desired, repaired) == {}
    assert repaired["spec"]["selector"] == live["spec"]["selector"]


def requested(size: str | None, live_size: str, capacity: str | None = None, **changes: Any) -> str | None:
    """Return what a claim is made to request that was created for `live_size`; None if it is not changed."""
    was = desired_of(storage_object(storage={"size": live_size})).pvc
    assert was is not None
    claim = stored(was) | {"status": {"phase": "Bound", "capacity": {"storage": capacity or live_size}}} | changes
    patch = claim_resize(claim, size)
    if not patch:
        return None
    assert claim_resize(apply_merge_patch(claim, patch), size) == {}, "a second write"
    assert patch["metadata"]["annotations"] == {"userstorage.dev/requested-size": size}
    request: str | None = patch["spec"]["resources"]["requests"]["storage"] if "spec" in patch else None
    return request


def test_claim_grows() -> None:
    assert requested("20Gi", "10Gi") == "20Gi"
    assert requested("10240Mi", "10Gi") is None
    assert requested(None, "10Gi") is None


def test_growth_that_the_volume_has_not_reached_is_taken_back() -> None:
    assert requested("3Gi", "1000Ti", "2Gi") == "3Gi"
    assert requested("2Gi", "1000Ti", "2Gi") == "2147483649", "the least that the API server accepts"
    assert requested("1Gi", "1000Ti", "1.5Gi") == "1610612737"


def test_volume_never_shrinks() -> None:
    assert requested("10Gi", "20Gi") is None
    assert requested("10Gi", "20Gi", "30Gi") is None


def test_unbound_claim_is_not_resized() -> None:
    assert requested("20Gi", "10Gi", status={"phase": "Pending"}) is None
    assert requested("5Gi", "10Gi", status={"phase": "Pending"}) is None


@pytest.mark.parametrize("by_hand", ["3Gi", "5000Ti"])
def test_claim_that_was_changed_by_hand_is_left_alone(by_hand: str) -> None:
    spec = {"resources": {"requests": {"storage": by_hand}}}
    assert requested("1000Ti", "1000Ti", "2Gi", spec=spec) is None
    assert requested("1001Ti", "1000Ti", "2Gi", spec=spec) == "1001Ti", "until the spec changes"


def test_size_that_the_claim_has_already_is_recorded() -> None:
    """Check that a later change by hand does not look like a request of the operator that was taken back."""
    three = {"resources": {"requests": {"storage": "3Gi"}}}
    claim = stored(desired_of(storage_object(storage={"size": "1000Ti"})).pvc or {}, resourceVersion="7")
    claim |= {"spec": three, "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}}}
    patch = claim_resize(claim, "3Gi")
    assert patch == {"metadata": {"annotations": {"userstorage.dev/requested-size": "3Gi"}}}
    by_hand = apply_merge_patch(claim, patch) | {"spec": {"resources": {"requests": {"storage": "5Gi"}}}}
    assert claim_resize(by_hand, "3Gi") == {}


def test_claim_of_an_earlier_build_grows_only() -> None:
    for annotations in ({}, {"userstorage.dev/requested-size": "much"}):
        meta = {"metadata": {"name": "claim", "annotations": annotations}}
        assert requested("2000Ti", "1000Ti", "2Gi", **meta) == "2000Ti"
        assert requested("2Gi", "1000Ti", "2Gi", **meta) is None


MANAGED = {"manager": "userstorage-operator", "operation": "Update"}


def managed(pod: Unstructured, **fields: list[str]) -> Unstructured:
    """Return the pod with an entry in managedFields that says the operator set these labels or annotations."""
    owned: Unstructured = {f"f:{field}": {".": {}} | {f"f:{key}": {} for key in keys} for field, keys in fields.items()}
    entry = MANAGED | {"fieldsV1": {"f:metadata": owned}}
    return pod | {"metadata": pod["metadata"] | {"managedFields": [entry]}}


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_pod_metadata_is_changed_and_removed_in_place(field: str) -> None:
    before = stored(desired_of(storage_object(podMetadata={field: {"team": "blue", "tier": "gold"}}), ALLOWING).pod)
    keys = [*before["metadata"][field]]
    before["metadata"][field] |= {"other/controller": "x"}
    after = desired_of(storage_object(podMetadata={field: {"team": "red"}}), ALLOWING).pod
    patch = metadata_patch(after, managed(before, **{field: keys}))
    assert patch == {"metadata": {field: {"team": "red", "tier": None}}}
    assert metadata_patch(after, managed(apply_merge_patch(before, patch), **{field: keys})) == {}


def test_owners_of_others_are_kept() -> None:
    other, ours = {"uid": "other"}, {"uid": "ours", "controller": True}
    plain: Unstructured = {"metadata": {}}
    shared = {"metadata": {"ownerReferences": [other, ours]}}
    assert with_owner(plain, ours) == {"metadata": {"ownerReferences": [ours]}}
    assert with_owner({"metadata": {"ownerReferences": [{"uid": "ours"}, other]}}, ours) == shared
    assert without_owner(shared, "ours") == {"metadata": {"ownerReferences": [other]}}
    assert without_owner({"metadata": {"ownerReferences": [ours]}}, "ours") == {"metadata": {"ownerReferences": None}}
    assert without_owner({"metadata": {"ownerReferences": [other]}}, "ours") == without_owner(plain, "ours") == {}


def test_patch_of_a_claim_leaves_owners_alone() -> None:
    desired = desired_of(storage_object(storage={"reclaimPolicy": "Delete"})).pvc
    assert desired is not None
    assert claim_patch(desired, stored(desired)) == {}
    changed = stored(desired, ownerReferences=[{"uid": "other", "controller": True}], labels={})
    assert claim_patch(desired, changed) == labels_patch(desired, changed)
    assert claim_patch(desired, changed)["metadata"].keys() == {"labels"}


def path_to(service: str, path: str) -> Unstructured:
    return {"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}}


OURS = path_to("user-storage-alice", "/")
PATHS_IN_INGRESS = st.lists(
    st.sampled_from([OURS, path_to("user-storage-alice", "/former/"), path_to("evil", "/"), path_to("acme", "/c")]), max_size=4
)


@given(PATHS_IN_INGRESS)
def test_only_paths_elsewhere_of_other_controllers_stay_in_an_ingress(paths: list[Unstructured]) -> None:
    cls = dufs_class(network={"expose": "Ingress", "hostTemplate": "${slug}.example.org"})
    desired = desired_of(storage_object(), cls).ingress
    assert desired is not None
    live = stored(desired)
    live["spec"] = live["spec"] | {"rules": [{"host": "alice.example.org", "http": {"paths": paths}}]}
    repaired = apply_merge_patch(live, child_patch(desired, live))
    [rule] = repaired["spec"]["rules"]
    foreign = [path for path in paths if path["path"] == "/c"]
    assert [path for path in rule["http"]["paths"] if path != OURS] == foreign
    assert rule["http"]["paths"].count(OURS) == 1
    assert child_patch(desired, repaired) == {}
    assert served_host(repaired) == HostPath("alice.example.org", "/")


def test_rule_of_another_host_is_removed_from_an_ingress() -> None:
    cls = dufs_class(network={"expose": "Ingress", "hostTemplate": "${slug}.example.org"})
    desired = desired_of(storage_object(), cls).ingress
    assert desired is not None
    live = stored(desired)
    other = {"host": "other.example.org", "http": {"paths": [path_to("acme", "/c")]}}
    live["spec"] = live["spec"] | {"rules": [*live["spec"]["rules"], other]}
    assert child_patch(desired, live) == {"spec": {"rules": desired["spec"]["rules"]}}


def test_manual_spec_edit_is_detected_in_managed_fields() -> None:
    pod = stored(desired_of(storage_object()).pod)
    operator = {"manager": "userstorage-operator", "operation": "Update", "fieldsV1": {"f:spec": {}}}
    kubelet = {"manager": "kubelet", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}}
    edit = {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:activeDeadlineSeconds": {}}}}
    labels = {"manager": "kubectl-label", "operation": "Update", "fieldsV1": {"f:metadata": {}}}
    pod["metadata"]["managedFields"] = [operator, kubelet, labels]
    assert not spec_edited_by_hand(pod)
    pod["metadata"]["managedFields"].append(edit)
    assert spec_edited_by_hand(pod)


def test_placement_and_merged_managers_are_no_manual_edit() -> None:
    pod = stored(desired_of(storage_object()).pod)
    placed: Unstructured = {"f:nodeSelector": {}, "f:affinity": {}, "f:tolerations": {}, "f:schedulingGates": {}}
    queue = {"manager": "kueue", "operation": "Update", "fieldsV1": {"f:spec": placed}}
    merged = {"manager": "ancient-changes", "operation": "Update", "fieldsV1": {"f:spec": {"f:containers": {}}}}
    pod["metadata"]["managedFields"] = [merged, queue]
    assert not spec_edited_by_hand(pod)
    pod["metadata"]["managedFields"] = [queue | {"fieldsV1": {"f:spec": placed | {"f:containers": {}}}}]
    assert spec_edited_by_hand(pod)
