import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import (
    ALLOWING,
    NOW,
    bound_claim,
    class_object,
    desired_of,
    ready_pod,
    settled_snapshot,
    snapshot_of,
    storage_object,
    stored,
)
from userstorage_operator.api import names
from userstorage_operator.api.errors import AwaitingGarbageCollection, NameConflict
from userstorage_operator.api.names import API_VERSION
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass
from userstorage_operator.observed.backoff import BackoffState
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.builders import owner_reference
from userstorage_operator.plan.planner import claim_to_collect, plan_blocked, plan_changes, plan_deletion
from userstorage_operator.plan.steps import (
    AddFinalizer,
    Create,
    Delete,
    DeletePod,
    Patch,
    Plan,
    ReleasePolicy,
    RemoveFinalizer,
    is_optional,
)
from userstorage_operator.status.conditions import ready
from userstorage_operator.status.outcome import Outcome

DELETED = {"deletionTimestamp": "2026-01-31T11:59:50Z"}


def plan_for(raw: Unstructured, snapshot: Snapshot) -> Plan:
    return plan_changes(snapshot, desired_of(raw, snapshot.cls or BUILT_IN), NOW)


def kinds(plan: Plan) -> list[object]:
    return [step.kind if isinstance(step, Create) else type(step) for step in plan.steps]


GROWN = Patch(
    Kind.PVC,
    {
        "metadata": {"annotations": {names.ANNOTATION_REQUESTED_SIZE: "20Gi"}},
        "spec": {"resources": {"requests": {"storage": "20Gi"}}},
    },
    best_effort=True,
)


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
    former = {"apiVersion": API_VERSION, "kind": "UserStorage", "name": "alice", "uid": "gone", "controller": True}
    for unusable in (bound_claim(claim, **DELETED), bound_claim(claim, ownerReferences=[former])):
        plan = plan_for(raw, snapshot.with_children(replace(snapshot.children, pvc=unusable, pod=None)))
        assert (plan.steps, plan.hold) == ((), "StorageNotReady")


def test_claim_of_another_controller_gets_its_pod() -> None:
    raw = storage_object()
    claim = desired_of(raw).pvc
    assert claim is not None
    owner = {"apiVersion": "cdi.kubevirt.io/v1beta1", "kind": "DataVolume", "name": "x", "uid": "other", "controller": True}
    snapshot = settled_snapshot(raw)
    controlled = replace(snapshot.children, pvc=bound_claim(claim, ownerReferences=[owner]), pod=None)
    assert kinds(plan_for(raw, snapshot.with_children(controlled))) == [Kind.POD]


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


@pytest.mark.parametrize("strategy", ["Immediate", "WhenSuspended"])
def test_pod_metadata_changes_in_place(strategy: str) -> None:
    snapshot = settled_snapshot(storage_object(podMetadata={"labels": {"team": "blue"}}), ALLOWING)
    raw = storage_object(podMetadata={"labels": {"team": "red"}}, lifecycle={"updateStrategy": strategy})
    [step] = plan_for(raw, replace(snapshot, storage=snapshot_of(raw).storage)).steps
    assert step == Patch(Kind.POD, {"metadata": {"labels": {"team": "red"}}})


def test_pod_metadata_changes_in_place_while_the_replacement_is_deferred() -> None:
    lifecycle = {"updateStrategy": "WhenSuspended", "terminationGracePeriodSeconds": 7}
    raw = storage_object(podMetadata={"labels": {"team": "red"}}, lifecycle=lifecycle)
    snapshot = settled_snapshot(storage_object(), ALLOWING)
    [step] = plan_for(raw, replace(snapshot, storage=snapshot_of(raw).storage)).steps
    assert step == Patch(Kind.POD, {"metadata": {"labels": {"team": "red"}}}), "not the record of what it was built from"


@pytest.mark.parametrize("named", ["old", "", None])
def test_deferred_pod_of_another_class_keeps_the_metadata_of_its_class(named: str | None) -> None:
    # The admission policy class-pods compares the pod with the class that the pod names, and would refuse those of the new one.
    old = class_of("old", {"labels": {"cost": "a"}, "annotations": {"mesh": "off"}})
    new = class_of("new", {"labels": {"tier": "b"}, "annotations": {"scan": "on"}})
    deferred = storage_object(lifecycle={"updateStrategy": "WhenSuspended"})
    settled = settled_snapshot(deferred, old)
    assert settled.children.pod is not None
    ours: Unstructured = {"f:labels": {"f:cost": {}}, "f:annotations": {"f:mesh": {}}}
    entry = {"manager": names.FIELD_MANAGER, "fieldsV1": {"f:metadata": ours}}
    meta = settled.children.pod["metadata"] | {"managedFields": [entry]}
    others = {key: value for key, value in meta["annotations"].items() if key != names.ANNOTATION_CLASS}
    annotations = others | ({names.ANNOTATION_CLASS: named} if named is not None else {})
    pod = settled.children.pod | {"metadata": meta | {"annotations": annotations}}
    snapshot = replace(settled.with_children(replace(settled.children, pod=pod)), cls=new)
    assert [step for step in plan_for(deferred, snapshot).steps if isinstance(step, Patch) and step.kind is Kind.POD] == []
    assert snapshot.children.pod is not None
    meta = snapshot.children.pod["metadata"]
    labels = {key: value for key, value in meta["labels"].items() if key != "userId"}
    edited = meta | {"labels": labels, "ownerReferences": []}
    pod = snapshot.children.pod | {"metadata": edited}
    planned = plan_for(deferred, snapshot.with_children(replace(snapshot.children, pod=pod)))
    [patch] = [step.patch for step in planned.steps if isinstance(step, Patch) and step.kind is Kind.POD]
    assert patch["metadata"] == {"labels": {"userId": "alice"}, "ownerReferences": [owner_reference(snapshot.storage)]}


def class_of(name: str, pod_metadata: Unstructured) -> UserStorageClass:
    return UserStorageClass.parse(
        class_object(name, podMetadata=pod_metadata, browser={"port": 8000 if name == "old" else 9000})
    )


@pytest.mark.parametrize("may_replace", [True, False])
def test_pod_of_a_build_that_hashed_its_metadata_is_kept(may_replace: bool) -> None:
    raw = storage_object(podMetadata={"labels": {"team": "blue"}, "annotations": {"note": "x"}})
    desired, snapshot = desired_of(raw, ALLOWING), settled_snapshot(raw, ALLOWING)
    pod = desired.pod["spec"]
    metadata = [{"team": "blue"}, {"note": "x"}]
    decided = [None, [None, None, False], 30, None, metadata]
    former = {names.ANNOTATION_POD_HASH: former_hash([pod, *metadata]), names.ANNOTATION_SPEC_HASH: former_hash(decided)}
    assert snapshot.children.pod is not None
    meta = snapshot.children.pod["metadata"]
    old = snapshot.children.pod | {"metadata": meta | {"annotations": meta["annotations"] | former}}
    snapshot = replace(snapshot.with_children(replace(snapshot.children, pod=old)), may_replace=may_replace)
    [step] = plan_for(raw, snapshot).steps
    kept = {names.ANNOTATION_POD_HASH: desired.pod_hash, names.ANNOTATION_SPEC_HASH: desired.spec_hash}
    assert step == Patch(Kind.POD, {"metadata": {"annotations": kept}})


def test_pod_without_metadata_of_its_own_has_the_hash_of_earlier_builds() -> None:
    desired = desired_of(storage_object())
    assert desired.pod_hash == former_hash([desired.pod["spec"], {}, {}])
    assert desired.spec_hash == former_hash([None, [None, None, False], 30, None, [{}, {}]])


def former_hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


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


FOREIGN_OWNER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other", "uid": "other"}


def with_owned_claim(snapshot: Snapshot, *others: Unstructured) -> Snapshot:
    """Return the snapshot with a claim as version 0.1 created it for reclaimPolicy Delete, and as an end of a deletion leaves it."""
    claim = snapshot.children.pvc
    assert claim is not None
    owned = claim | {"metadata": claim["metadata"] | {"ownerReferences": [owner_reference(snapshot.storage), *others]}}
    return snapshot.with_children(replace(snapshot.children, pvc=owned))


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_claim_has_no_owner_before_the_end_of_a_deletion(policy: str) -> None:
    raw = storage_object(storage={"size": "20Gi", "reclaimPolicy": policy})
    snapshot = with_owned_claim(replace(settled_snapshot(storage_object()), storage=snapshot_of(raw).storage), FOREIGN_OWNER)
    disowned, grown = plan_for(raw, snapshot).steps
    assert disowned == Patch(Kind.PVC, {"metadata": {"ownerReferences": [FOREIGN_OWNER]}}, best_effort=True)
    assert grown == GROWN


def test_switch_to_retain_during_deletion_disowns_claim() -> None:
    owned = with_owned_claim(settled_snapshot(storage_object(storage={"reclaimPolicy": "Delete"})))
    deleting = snapshot_of(storage_object(meta=DELETED, storage={"reclaimPolicy": "Retain"})).storage
    snapshot = replace(owned, storage=deleting).with_children(replace(owned.children, pod=None))
    keep, release = plan_deletion(snapshot).steps
    assert keep == Patch(Kind.PVC, {"metadata": {"ownerReferences": None}})
    assert not is_optional(keep)  # otherwise the garbage collector would delete the claim
    assert release == RemoveFinalizer()


def test_claim_goes_with_its_user_only_if_that_is_asked_for_and_nothing_was_orphaned() -> None:
    world = settled_snapshot(storage_object(meta=DELETED, storage={"reclaimPolicy": "Delete"}))
    snapshot = world.with_children(replace(world.children, pod=None))
    assert claim_to_collect(snapshot) == snapshot.children.pvc
    retained = replace(snapshot, storage=snapshot_of(storage_object(meta=DELETED)).storage)
    assert claim_to_collect(retained) is None
    for field in ("network_policy", "service"):
        orphaned = without_owners(getattr(snapshot.children, field))
        assert claim_to_collect(snapshot.with_children(replace(snapshot.children, **{field: orphaned}))) is None


def test_claim_that_another_object_controls_gets_no_owner() -> None:
    raw = storage_object(meta=DELETED, storage={"reclaimPolicy": "Delete"})
    snapshot = settled_snapshot(raw)
    claim = snapshot.children.pvc
    assert claim is not None
    for owner, collected in ((FOREIGN_OWNER, True), (FOREIGN_OWNER | {"controller": True}, False)):
        owned = claim | {"metadata": claim["metadata"] | {"ownerReferences": [owner]}}
        found = claim_to_collect(snapshot.with_children(replace(snapshot.children, pod=None, pvc=owned)))
        assert found == (owned if collected else None)


def without_owners(child: Unstructured, *owners: Unstructured, **meta: object) -> Unstructured:
    return child | {"metadata": child["metadata"] | {"ownerReferences": list(owners)} | meta}


@pytest.mark.parametrize("kind", [Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD])
def test_child_without_controller_is_adopted(kind: Kind) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    orphan = without_owners(getattr(snapshot.children, kind.field), FOREIGN_OWNER)
    [step] = plan_for(raw, snapshot.with_children(replace(snapshot.children, **{kind.field: orphan}))).steps
    assert step == Patch(kind, {"metadata": {"ownerReferences": [FOREIGN_OWNER, owner_reference(snapshot.storage)]}})


def test_orphaned_pod_that_waits_for_its_rollout_is_adopted_as_it_is() -> None:
    raw = storage_object(lifecycle={"updateStrategy": "WhenSuspended"}, storage={"readOnly": True})
    snapshot = replace(settled_snapshot(storage_object()), storage=snapshot_of(raw).storage)
    assert snapshot.children.pod is not None
    orphan = without_owners(snapshot.children.pod)
    [step] = plan_for(raw, snapshot.with_children(replace(snapshot.children, pod=orphan))).steps
    assert step == Patch(Kind.POD, {"metadata": {"ownerReferences": [owner_reference(snapshot.storage)]}})


def test_orphaned_pod_without_hash_is_deleted() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    assert snapshot.children.pod is not None
    bare = without_owners(snapshot.children.pod, annotations={"userstorage.dev/user-id": "alice"})
    [step] = plan_for(raw, snapshot.with_children(replace(snapshot.children, pod=bare))).steps
    assert isinstance(step, DeletePod)


@pytest.mark.parametrize("kind", [Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD])
@pytest.mark.parametrize(
    "meta",
    [
        {"annotations": {"userstorage.dev/user-id": "mallory"}},
        {"labels": {}},
        {"ownerReferences": [FOREIGN_OWNER | {"controller": True}]},
    ],
    ids=["another user", "no label", "another controller"],
)
def test_foreign_child_is_not_adopted(kind: Kind, meta: Unstructured) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    foreign = without_owners(getattr(snapshot.children, kind.field))
    foreign["metadata"] |= meta
    with pytest.raises(NameConflict):
        plan_for(raw, snapshot.with_children(replace(snapshot.children, **{kind.field: foreign})))


def test_orphaned_child_that_is_terminating_is_waited_for() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    assert snapshot.children.service is not None
    orphan = without_owners(snapshot.children.service, **DELETED)
    with pytest.raises(AwaitingGarbageCollection):
        plan_for(raw, snapshot.with_children(replace(snapshot.children, service=orphan)))


def with_policy(snapshot: Snapshot, **meta: object) -> Snapshot:
    policy = snapshot.children.network_policy
    assert policy is not None
    changed = policy | {"metadata": policy["metadata"] | meta}
    return snapshot.with_children(replace(snapshot.children, network_policy=changed))


def test_deleted_policy_is_kept_with_its_pod_and_replaced_before_the_next() -> None:
    raw = storage_object()
    held = with_policy(settled_snapshot(raw), **DELETED)
    assert plan_for(raw, held).steps == ()
    policy = held.children.network_policy
    assert policy is not None
    opened = held.with_children(replace(held.children, network_policy=policy | {"spec": {"egress": [{}]}}))
    assert [step.kind for step in plan_for(raw, opened).steps if isinstance(step, Patch)] == [Kind.NETWORK_POLICY]
    without_pod = held.with_children(replace(held.children, pod=None))
    assert kinds(plan_for(raw, without_pod)) == [ReleasePolicy, Kind.NETWORK_POLICY, Kind.POD]
    both = with_policy(without_pod, finalizers=["example.org/held", "userstorage.dev/pod-gone"])
    released = with_policy(without_pod, finalizers=["example.org/held"])
    for kept, steps in ((both, (ReleasePolicy(),)), (released, ())):
        waiting = plan_for(raw, kept)
        assert (waiting.steps, waiting.hold) == (steps, "NetworkNotReady")
    assert "example.org/held" in ready(Outcome(released, desired_of(raw), waiting, None, NOW)).message
    suspended = storage_object(replicas=0)
    assert plan_for(suspended, replace(released, storage=snapshot_of(suspended).storage)).hold is None


def test_deleted_policy_of_a_blocked_user_is_released_without_its_pod() -> None:
    held = with_policy(settled_snapshot(storage_object()), **DELETED)
    assert plan_blocked(held, NOW).steps == ()
    assert plan_blocked(held.with_children(replace(held.children, pod=None)), NOW).steps == (ReleasePolicy(),)


def test_held_policy_of_a_former_object_is_taken_over() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    former = owner_reference(snapshot.storage) | {"uid": "former"}
    [step] = plan_for(raw, with_policy(snapshot, ownerReferences=[former], **DELETED)).steps
    assert step == Patch(Kind.NETWORK_POLICY, {"metadata": {"ownerReferences": [owner_reference(snapshot.storage)]}})
    with pytest.raises(AwaitingGarbageCollection):
        plan_for(raw, with_policy(snapshot, ownerReferences=[former]))


def test_finalizer_of_policy_is_restored() -> None:
    raw = storage_object()
    [step] = plan_for(raw, with_policy(settled_snapshot(raw), finalizers=["example.org/held"])).steps
    assert step == Patch(Kind.NETWORK_POLICY, {"metadata": {"finalizers": ["example.org/held", "userstorage.dev/pod-gone"]}})


def test_policy_that_the_class_no_longer_asks_for_goes_at_once() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    wanted = replace(desired_of(raw), network_policy=None)
    deletion = Delete(Kind.NETWORK_POLICY, "uid-NetworkPolicy")
    assert plan_changes(snapshot, wanted, NOW).steps == (deletion,)
    assert plan_changes(with_policy(snapshot, **DELETED), wanted, NOW).steps == (deletion,)
    assert plan_changes(with_policy(snapshot, ownerReferences=[]), wanted, NOW).steps == (deletion,)
    released = with_policy(snapshot, **DELETED, finalizers=["example.org/held"])
    assert plan_changes(released, wanted, NOW).steps == ()


def test_deletion_without_our_finalizer_releases_a_policy_that_blocks_it() -> None:
    raw = storage_object(meta=DELETED | {"finalizers": ["foregroundDeletion"]})
    held = with_policy(settled_snapshot(raw), **DELETED)
    assert plan_deletion(held).steps == ()
    assert plan_deletion(held.with_children(replace(held.children, pod=None))).steps == (ReleasePolicy(),)


def test_orphaning_deletion_waits_for_the_garbage_collector() -> None:
    raw = storage_object(meta=DELETED | {"finalizers": ["userstorage.dev/pod-gone", "orphan"]})
    plan = plan_deletion(settled_snapshot(raw))
    assert plan.steps == ()
    assert len(plan.requeue_at) == 1


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
