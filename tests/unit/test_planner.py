from dataclasses import replace
from datetime import timedelta

import pytest

from support.builders import NOW, bound_claim, desired_of, ready_pod, settled_snapshot, snapshot_of, storage_object, stored
from userstorage_operator.api.errors import AwaitingGarbageCollection, NameConflict
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.backoff import BackoffState
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan_blocked, plan_changes, plan_deletion
from userstorage_operator.plan.steps import AddFinalizer, Create, DeletePod, Patch, Plan, RemoveFinalizer, is_optional

DELETED = {"deletionTimestamp": "2026-01-31T11:59:50Z"}


def plan_for(raw: Unstructured, snapshot: Snapshot) -> Plan:
    return plan_changes(snapshot, desired_of(raw), NOW)


def kinds(plan: Plan) -> list[object]:
    return [step.kind if isinstance(step, Create) else type(step) for step in plan.steps]


GROWN = Patch(Kind.PVC, {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}, best_effort=True)


def test_new_user_gets_network_policy_first_and_pod_last() -> None:
    raw = storage_object(meta={"finalizers": []})
    assert kinds(plan_for(raw, snapshot_of(raw))) == [AddFinalizer, Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE, Kind.POD]


def test_snapshot_that_equals_desired_needs_no_steps() -> None:
    raw = storage_object()
    assert plan_for(raw, settled_snapshot(raw)) == Plan()


@pytest.mark.parametrize("missing", ["network_policy", "pvc", "service", "pod"])
def test_only_missing_child_is_created(missing: str) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    plan = plan_for(raw, snapshot.with_children(replace(snapshot.children, **{missing: None})))
    assert kinds(plan) == [Kind[missing.upper()]]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in EXPOSURE])
def test_foreign_object_with_our_name_raises_name_conflict(kind: Kind) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    child = getattr(snapshot.children, kind.field)
    foreign = child | {"metadata": child["metadata"] | {"ownerReferences": [], "annotations": {}}}
    with pytest.raises(NameConflict, match=r"user-storage-alice.* is left alone"):
        plan_for(raw, snapshot.with_children(replace(snapshot.children, **{kind.field: foreign})))


@pytest.mark.parametrize("kind", [Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD])
def test_child_of_former_object_awaits_garbage_collection(kind: Kind) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    child = getattr(snapshot.children, kind.field)
    [owner] = child["metadata"]["ownerReferences"]
    former = child | {"metadata": child["metadata"] | {"ownerReferences": [owner | {"uid": "gone"}]}}
    with pytest.raises(AwaitingGarbageCollection, match="has not been garbage-collected yet"):
        plan_for(raw, snapshot.with_children(replace(snapshot.children, **{kind.field: former})))


def test_changed_spec_replaces_pod() -> None:
    changed = storage_object(storage={"readOnly": True})
    [step] = plan_for(changed, settled_snapshot(storage_object())).steps
    assert isinstance(step, DeletePod)
    assert step.grace_period == 30
    assert step.requested


def test_deferred_update_keeps_pod_until_suspended() -> None:
    deferred = storage_object(storage={"readOnly": True}, lifecycle={"updateStrategy": "WhenSuspended"})
    snapshot = replace(settled_snapshot(storage_object()), storage=snapshot_of(deferred).storage)
    assert plan_for(deferred, snapshot).steps == ()
    suspended = storage_object(replicas=0, storage={"readOnly": True}, lifecycle={"updateStrategy": "WhenSuspended"})
    snapshot = replace(snapshot, storage=snapshot_of(suspended).storage)
    assert kinds(plan_for(suspended, snapshot)) == [DeletePod]


def test_suspension_deletes_only_the_pod() -> None:
    raw = storage_object(replicas=0)
    snapshot = settled_snapshot(raw)
    assert kinds(plan_for(raw, snapshot)) == [DeletePod]
    assert plan_for(raw, snapshot.with_children(replace(snapshot.children, pod=None))) == Plan()


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_finished_pod_is_deleted(phase: str) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    assert snapshot.children.pod is not None
    ended = snapshot.children.pod | {"status": {"phase": phase, "reason": "Evicted"}}
    [step] = plan_for(raw, snapshot.with_children(replace(snapshot.children, pod=ended))).steps
    assert isinstance(step, DeletePod)
    assert not step.requested
    assert "Evicted" in step.reason or phase == "Succeeded"


def test_terminating_pod_is_waited_for() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    terminating = ready_pod(desired_of(raw).pod, **DELETED)
    deadline = NOW - timedelta(seconds=10) + timedelta(minutes=10)
    assert plan_for(raw, snapshot.with_children(replace(snapshot.children, pod=terminating))) == Plan(requeue_at=(deadline,))


def test_pod_is_held_during_backoff() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    soon = NOW + timedelta(seconds=9)
    lost = replace(snapshot.with_children(replace(snapshot.children, pod=None)), pod_backoff=BackoffState(3, soon))
    assert plan_for(raw, lost) == Plan((), "PodBackoff", (soon,))
    assert kinds(plan_changes(lost, desired_of(raw), soon)) == [Kind.POD]


def test_backoff_is_ignored_after_clock_set_back() -> None:
    # A pause that ends later than the longest possible backoff was computed before the clock was set back.
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    lost = snapshot.with_children(replace(snapshot.children, pod=None))
    for count, pause in ((1, 1), (3, 9), (9, 60)):
        longest = replace(lost, pod_backoff=BackoffState(count, NOW + timedelta(seconds=pause)))
        assert plan_for(raw, longest).hold == "PodBackoff"
        set_back = replace(lost, pod_backoff=BackoffState(count, NOW + timedelta(hours=1)))
        assert kinds(plan_for(raw, set_back)) == [Kind.POD]


def test_no_pod_on_terminating_claim() -> None:
    raw = storage_object()
    claim = desired_of(raw).pvc
    assert claim is not None
    snapshot = settled_snapshot(raw)
    for unusable in (bound_claim(claim, **DELETED), bound_claim(claim, ownerReferences=[{"uid": "gone", "controller": True}])):
        plan = plan_for(raw, snapshot.with_children(replace(snapshot.children, pvc=unusable, pod=None)))
        assert (plan.steps, plan.hold) == ((), "StorageNotReady")


def test_no_pod_on_unshareable_claim() -> None:
    raw = storage_object(storage={"claimName": "photos"})
    shareable = {"metadata": {"name": "photos", "labels": {"userstorage.dev/shareable": "true"}}, "spec": {}}
    unshareable = {"metadata": {"name": "photos"}, "spec": {}}
    snapshot = replace(settled_snapshot(storage_object()), storage=snapshot_of(raw).storage)
    for claim, pods in ((shareable, [Kind.POD]), (unshareable, []), (None, [])):
        assert kinds(plan_for(raw, snapshot.with_children(replace(snapshot.children, pvc=claim, pod=None)))) == pods


def test_pod_labels_are_repaired_in_place() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    pod = snapshot.children.pod
    assert pod is not None
    bare = pod | {"metadata": pod["metadata"] | {"labels": {}}}
    [step] = plan_for(raw, snapshot.with_children(replace(snapshot.children, pod=bare))).steps
    assert isinstance(step, Patch)
    assert step.patch["metadata"]["labels"]["userId"] == "alice"


def test_deletion_deletes_pod_then_waits_then_removes_finalizer() -> None:
    raw = storage_object(meta=DELETED, lifecycle={"terminationGracePeriodSeconds": 7})
    snapshot = settled_snapshot(raw)
    first = plan_deletion(snapshot)
    [step] = first.steps
    assert isinstance(step, DeletePod)
    assert step.grace_period == 7
    terminating = ready_pod(desired_of(raw).pod, **DELETED)
    waiting = plan_deletion(snapshot.with_children(replace(snapshot.children, pod=terminating)))
    assert waiting.steps == ()
    assert waiting.requeue_at == first.requeue_at
    gone = snapshot.with_children(replace(snapshot.children, pod=None))
    assert plan_deletion(gone).steps == (RemoveFinalizer(),)


def test_deletion_keeps_foreign_pod() -> None:
    raw = storage_object(meta=DELETED)
    foreign = stored(desired_of(raw).pod, ownerReferences=[])
    assert plan_deletion(snapshot_of(raw, pod=foreign)).steps == (RemoveFinalizer(),)


def test_deletion_without_our_finalizer_needs_no_steps() -> None:
    raw = storage_object(meta=DELETED | {"finalizers": ["example.com/backup"]})
    assert plan_deletion(settled_snapshot(raw)).steps == ()


def test_claim_growth_is_last_step() -> None:
    raw = storage_object(storage={"size": "20Gi"})
    snapshot = settled_snapshot(storage_object())
    assert plan_for(raw, replace(snapshot, storage=snapshot_of(raw).storage)).steps == (GROWN,)
    lost = snapshot.with_children(replace(snapshot.children, pod=None))
    created, grown = plan_for(raw, replace(lost, storage=snapshot_of(raw).storage)).steps
    assert (kinds(Plan((created,))), grown) == ([Kind.POD], GROWN)


def test_claim_owner_and_growth_are_separate_steps() -> None:
    raw = storage_object(storage={"size": "20Gi", "reclaimPolicy": "Delete"})
    owned, grown = plan_for(raw, replace(settled_snapshot(storage_object()), storage=snapshot_of(raw).storage)).steps
    assert isinstance(owned, Patch)
    assert owned.patch["metadata"].keys() == {"ownerReferences"}
    assert is_optional(owned)
    assert grown == GROWN


def test_switch_to_retain_during_deletion_disowns_claim() -> None:
    owned = settled_snapshot(storage_object(storage={"reclaimPolicy": "Delete"}))
    deleting = snapshot_of(storage_object(meta=DELETED, storage={"reclaimPolicy": "Retain"})).storage
    snapshot = replace(owned, storage=deleting).with_children(replace(owned.children, pod=None))
    keep, release = plan_deletion(snapshot).steps
    assert isinstance(keep, Patch)
    assert keep.patch == {"metadata": {"ownerReferences": None}}
    assert release == RemoveFinalizer()


def test_claim_owner_patch_is_optional_until_deletion() -> None:
    # A refused owner patch is only reported until the user is deleted. Then the claim must lose its owner first.
    # Otherwise the garbage collector would delete the claim.
    raw = storage_object(storage={"reclaimPolicy": "Delete"})
    snapshot = settled_snapshot(storage_object())
    waiting = replace(snapshot, storage=snapshot_of(raw).storage).with_children(replace(snapshot.children, pod=None))
    tend, _ = plan_for(raw, waiting).steps
    assert isinstance(tend, Patch)
    assert tend.patch["metadata"]["ownerReferences"]
    assert is_optional(tend)
    owned = settled_snapshot(raw)
    keep, _ = plan_deletion(replace(owned, storage=snapshot_of(storage_object(meta=DELETED)).storage)).steps
    assert not is_optional(keep)


def test_blocked_user_can_be_suspended() -> None:
    assert kinds(plan_blocked(settled_snapshot(storage_object(replicas=0)), NOW)) == [DeletePod]
    assert plan_blocked(settled_snapshot(storage_object()), NOW) == Plan()


def test_named_claim_may_have_any_owner() -> None:
    raw = storage_object(storage={"claimName": "photos"})
    labels = {"userstorage.dev/shareable": "true"}
    claim = {
        "metadata": {"name": "photos", "labels": labels, "ownerReferences": [{"uid": "x", "controller": True}]},
        "spec": {},
    }
    snapshot = replace(settled_snapshot(storage_object()), storage=snapshot_of(raw).storage)
    assert kinds(plan_for(raw, snapshot.with_children(replace(snapshot.children, pvc=claim, pod=None)))) == [Kind.POD]


def test_pod_without_hash_counts_as_lost() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    pod = snapshot.children.pod
    assert pod is not None
    bare = pod | {"metadata": pod["metadata"] | {"annotations": {}}}
    [step] = plan_for(raw, snapshot.with_children(replace(snapshot.children, pod=bare))).steps
    assert isinstance(step, DeletePod)
    assert not step.requested


def test_blocked_user_still_reports_pod_deletion_timeout() -> None:
    snapshot = settled_snapshot(storage_object(lifecycle={"deletionTimeout": "10m"}))
    pod = snapshot.children.pod
    assert pod is not None
    ending = pod | {"metadata": pod["metadata"] | DELETED}
    plan = plan_blocked(snapshot.with_children(replace(snapshot.children, pod=ending)), NOW)
    assert plan == Plan(requeue_at=(parse_time(DELETED["deletionTimestamp"]) + timedelta(minutes=10),))
