import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from support.builders import desired_of, storage_object, stored
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan.diff import child_patch, claim_growth, spec_edited_by_hand, with_owner, without_owner


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
        ("spec", "selector", "userId"),
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


def grown(size: str | None, live_size: str, phase: str = "Bound") -> Unstructured:
    was = desired_of(storage_object(storage={"size": live_size})).pvc
    assert was is not None
    return claim_growth(stored(was) | {"status": {"phase": phase}}, size)


def test_claim_grows_and_never_shrinks() -> None:
    assert grown("20Gi", "10Gi") == {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}
    assert grown("10Gi", "20Gi") == {}
    assert grown("10240Mi", "10Gi") == {}
    assert grown(None, "10Gi") == {}


def test_unbound_claim_is_not_expanded() -> None:
    assert grown("20Gi", "10Gi", "Pending") == {}


def test_owners_of_others_are_kept() -> None:
    other, ours = {"uid": "other"}, {"uid": "ours", "controller": True}
    plain: Unstructured = {"metadata": {}}
    shared = {"metadata": {"ownerReferences": [other, ours]}}
    assert with_owner(plain, ours) == {"metadata": {"ownerReferences": [ours]}}
    assert with_owner({"metadata": {"ownerReferences": [{"uid": "ours"}, other]}}, ours) == shared
    assert without_owner(shared, "ours") == {"metadata": {"ownerReferences": [other]}}
    assert without_owner({"metadata": {"ownerReferences": [ours]}}, "ours") == {"metadata": {"ownerReferences": None}}
    assert without_owner({"metadata": {"ownerReferences": [other]}}, "ours") == without_owner(plain, "ours") == {}


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
