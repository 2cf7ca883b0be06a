"""Children without the label of our watches: found by lists, given the label first, and left alone if they are not ours."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW, desired_of, settled_snapshot, snapshot_of, storage_object
from userstorage_operator.api import names
from userstorage_operator.api.errors import NameConflict
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.snapshot import Children, Snapshot, without_unlabelled
from userstorage_operator.plan.diff import LABEL_PATCH, child_patch, claim_patch, metadata_patch
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.steps import Delete, DeletePod, Patch, Step

DELETED = {"deletionTimestamp": "2026-01-31T11:59:50Z"}
CHILDREN = (Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE, Kind.POD)
RAW = {
    "running": storage_object(),
    "suspended": storage_object(replicas=0),
    "changed": storage_object(storage={"readOnly": True}),
    "deferred": storage_object(storage={"readOnly": True}, lifecycle={"updateStrategy": "WhenSuspended"}),
    "grown": storage_object(storage={"size": "20Gi"}),
    "invalid": storage_object(storage={"size": "1000Ti"}),
    "being deleted": storage_object(meta=DELETED),
}


def unlabelled(child: Unstructured, value: str | None = None) -> Unstructured:
    labels = {key: label for key, label in child["metadata"]["labels"].items() if key != names.LABEL_MANAGED_BY}
    return child | {"metadata": child["metadata"] | {"labels": labels | ({names.LABEL_MANAGED_BY: value} if value else {})}}


def snapshot_with(raw: Unstructured, hidden: Iterable[Kind], terminating: Iterable[Kind] = ()) -> Snapshot:
    """Return the snapshot of a user whose children of the kinds `hidden` have no label."""
    before = settled_snapshot(storage_object())
    children = before.children
    for kind in hidden:
        children = replace(children, **{kind.field: unlabelled(getattr(children, kind.field))})
    for kind in terminating:
        child = getattr(children, kind.field)
        children = replace(children, **{kind.field: child | {"metadata": child["metadata"] | DELETED}})
    return replace(before, storage=snapshot_of(raw).storage).with_children(children)


def labels_of(step: Step) -> Unstructured:
    labels: Unstructured = step.patch.get("metadata", {}).get("labels", {}) if isinstance(step, Patch) else {}
    return labels


@given(st.sampled_from(sorted(RAW)), st.sets(st.sampled_from(CHILDREN)), st.sets(st.sampled_from(CHILDREN)))
def test_each_own_child_without_label_gets_it_once_and_first(state: str, hidden: set[Kind], terminating: set[Kind]) -> None:
    planned = plan(snapshot_with(RAW[state], hidden, terminating), NOW)
    labelling = [step.kind for step in planned.steps if isinstance(step, Patch) and names.LABEL_MANAGED_BY in labels_of(step)]
    removed = {step.kind for step in planned.steps if isinstance(step, Delete)}
    assert sorted(kind.name for kind in labelling) == sorted(kind.name for kind in hidden - removed)
    steps = list(planned.steps)
    for number, step in enumerate(steps):
        if isinstance(step, DeletePod) and Kind.POD in hidden:
            assert Patch(Kind.POD, LABEL_PATCH, best_effort=True) in steps[:number]
    usual = plan(snapshot_with(RAW[state], (), terminating), NOW)
    assert [step for step in steps if not labels_of(step)] == [step for step in usual.steps if not labels_of(step)]


@pytest.mark.parametrize("kind", CHILDREN)
@pytest.mark.parametrize("state", sorted(RAW))
def test_foreign_object_without_label_gets_none(kind: Kind, state: str) -> None:
    snapshot = snapshot_with(RAW[state], [kind])
    child = getattr(snapshot.children, kind.field)
    foreign = child | {"metadata": child["metadata"] | {"ownerReferences": [], "annotations": {}}}
    snapshot = snapshot.with_children(replace(snapshot.children, **{kind.field: foreign}))
    planned = plan(snapshot, NOW)
    assert not [step for step in planned.steps if isinstance(step, Patch) and step.kind is kind]
    if state == "running":
        assert isinstance(planned.spec_error, NameConflict)


def test_named_claim_gets_no_label() -> None:
    raw = storage_object(storage={"claimName": "shared"})
    shared = {"metadata": {"name": "shared", "labels": {names.LABEL_SHAREABLE: "true"}}, "spec": {}}
    snapshot = snapshot_with(raw, [])
    snapshot = snapshot.with_children(replace(snapshot.children, pvc=shared))
    assert not [step for step in plan(snapshot, NOW).steps if isinstance(step, Patch) and step.kind is Kind.PVC]


@pytest.mark.parametrize("value", ["platform", None])
def test_recommended_label_of_another_program_is_no_difference(value: str | None) -> None:
    desired, children = desired_of(storage_object()), settled_snapshot(storage_object()).children
    for kind, patch_of in zip(CHILDREN, (child_patch, claim_patch, child_patch, metadata_patch), strict=True):
        live = getattr(children, kind.field)
        labels = {key: label for key, label in live["metadata"]["labels"].items() if key != names.LABEL_RECOMMENDED_MANAGED_BY}
        labels |= {names.LABEL_RECOMMENDED_MANAGED_BY: value} if value else {}
        assert patch_of(getattr(desired, kind.field), live | {"metadata": live["metadata"] | {"labels": labels}}) == {}


def test_unlabelled_objects_of_others_are_left_out() -> None:
    storage, children = snapshot_of(storage_object()).storage, settled_snapshot(storage_object()).children
    assert without_unlabelled(children, storage) is children
    assert children.pod is not None
    assert children.pvc is not None
    hidden = replace(children, pod=unlabelled(children.pod), pvc=unlabelled(children.pvc, "rival"))
    assert without_unlabelled(hidden, storage) is hidden
    other = {"ownerReferences": [], "annotations": {names.ANNOTATION_USER_ID: "mallory"}}
    foreign = unlabelled(children.pod | {"metadata": children.pod["metadata"] | other})
    assert without_unlabelled(replace(children, pod=foreign), storage) == replace(children, pod=None)
    [owner] = children.pod["metadata"]["ownerReferences"]
    former = unlabelled(children.pod | {"metadata": children.pod["metadata"] | {"ownerReferences": [owner | {"uid": "gone"}]}})
    assert without_unlabelled(replace(children, pod=former), storage) == replace(children, pod=None)
    orphaned = unlabelled(children.pod | {"metadata": children.pod["metadata"] | {"ownerReferences": []}})
    assert without_unlabelled(replace(children, pod=orphaned), storage).pod is orphaned
    assert without_unlabelled(Children(), storage) == Children()
