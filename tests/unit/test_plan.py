from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOW, bound_claim, desired_of, ready_pod, settled_world, storage_object, stored, world_of
from userstorage_operator.api.errors import LeftBehind, NameConflict
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Object
from userstorage_operator.observed.snapshot import PodStarts, World
from userstorage_operator.plan.planner import (
    AddFinalizer,
    Create,
    DeletePod,
    Patch,
    Plan,
    ReleaseFinalizer,
    decide,
    decide_deletion,
    decide_obstructed,
    keeps_nobody_from_the_files,
)

DELETED = {"deletionTimestamp": "2026-01-31T11:59:50Z"}


def plan_for(raw: Object, world: World) -> Plan:
    return decide(world, desired_of(raw), NOW)


def kinds(plan: Plan) -> list[object]:
    return [step.kind if isinstance(step, Create) else type(step) for step in plan.steps]


GROWN = Patch(Kind.CLAIM, {"spec": {"resources": {"requests": {"storage": "20Gi"}}}}, may_fail=True)


def test_from_nothing_the_pod_is_made_last_and_behind_its_policy() -> None:
    raw = storage_object(meta={"finalizers": []})
    assert kinds(plan_for(raw, world_of(raw))) == [AddFinalizer, Kind.POLICY, Kind.CLAIM, Kind.SERVICE, Kind.POD]


def test_a_settled_world_is_left_alone() -> None:
    raw = storage_object()
    assert plan_for(raw, settled_world(raw)) == Plan()


@pytest.mark.parametrize("missing", ["policy", "claim", "service", "pod"])
def test_a_missing_child_is_made_again_and_nothing_else_touched(missing: str) -> None:
    raw = storage_object()
    world = settled_world(raw)
    plan = plan_for(raw, world.with_children(replace(world.children, **{missing: None})))
    assert kinds(plan) == [Kind[missing.upper()]]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in EXPOSURE])
def test_a_stranger_in_our_place_stops_everything(kind: Kind) -> None:
    raw = storage_object()
    world = settled_world(raw)
    child = getattr(world.children, kind.field)
    stranger = child | {"metadata": child["metadata"] | {"ownerReferences": [], "annotations": {}}}
    with pytest.raises(NameConflict, match=r"user-storage-alice.* is left alone"):
        plan_for(raw, world.with_children(replace(world.children, **{kind.field: stranger})))


@pytest.mark.parametrize("kind", [Kind.POLICY, Kind.SERVICE, Kind.POD])
def test_a_child_of_the_users_former_object_is_waited_for(kind: Kind) -> None:
    raw = storage_object()
    world = settled_world(raw)
    child = getattr(world.children, kind.field)
    [owner] = child["metadata"]["ownerReferences"]
    former = child | {"metadata": child["metadata"] | {"ownerReferences": [owner | {"uid": "gone"}]}}
    with pytest.raises(LeftBehind, match="has not been collected yet"):
        plan_for(raw, world.with_children(replace(world.children, **{kind.field: former})))


def test_a_changed_spec_replaces_the_pod() -> None:
    changed = storage_object(storage={"readOnly": True})
    [step] = plan_for(changed, settled_world(storage_object())).steps
    assert isinstance(step, DeletePod)
    assert step.grace_period == 30
    assert step.asked_for


def test_a_deferred_update_leaves_the_pod_until_it_is_suspended() -> None:
    deferred = storage_object(storage={"readOnly": True}, lifecycle={"updateStrategy": "WhenSuspended"})
    world = replace(settled_world(storage_object()), storage=world_of(deferred).storage)
    assert plan_for(deferred, world).steps == ()
    suspended = storage_object(replicas=0, storage={"readOnly": True}, lifecycle={"updateStrategy": "WhenSuspended"})
    world = replace(world, storage=world_of(suspended).storage)
    assert kinds(plan_for(suspended, world)) == [DeletePod]


def test_suspended_means_no_pod_and_all_else_kept() -> None:
    raw = storage_object(replicas=0)
    world = settled_world(raw)
    assert kinds(plan_for(raw, world)) == [DeletePod]
    assert plan_for(raw, world.with_children(replace(world.children, pod=None))) == Plan()


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_ended_is_removed(phase: str) -> None:
    raw = storage_object()
    world = settled_world(raw)
    assert world.children.pod is not None
    ended = world.children.pod | {"status": {"phase": phase, "reason": "Evicted"}}
    [step] = plan_for(raw, world.with_children(replace(world.children, pod=ended))).steps
    assert isinstance(step, DeletePod)
    assert not step.asked_for
    assert "Evicted" in step.why or phase == "Succeeded"


def test_a_pod_on_its_way_out_is_waited_for() -> None:
    raw = storage_object()
    world = settled_world(raw)
    going = ready_pod(desired_of(raw).pod, **DELETED)
    deadline = NOW - timedelta(seconds=10) + timedelta(minutes=10)
    assert plan_for(raw, world.with_children(replace(world.children, pod=going))) == Plan(wake_at=(deadline,))


def test_no_pod_before_its_pause_is_over() -> None:
    raw = storage_object()
    world = settled_world(raw)
    soon = NOW + timedelta(seconds=9)
    lost = replace(world.with_children(replace(world.children, pod=None)), pod_starts=PodStarts(3, soon))
    assert plan_for(raw, lost) == Plan((), "PodBackoff", (soon,))
    assert kinds(decide(lost, desired_of(raw), soon)) == [Kind.POD]


def test_a_clock_that_is_set_back_keeps_nobody_waiting() -> None:
    """The pause was counted from a time that is yet to come again."""
    raw = storage_object()
    world = settled_world(raw)
    lost = world.with_children(replace(world.children, pod=None))
    for count, pause in ((1, 1), (3, 9), (9, 60)):
        longest = replace(lost, pod_starts=PodStarts(count, NOW + timedelta(seconds=pause)))
        assert plan_for(raw, longest).hold == "PodBackoff"
        set_back = replace(lost, pod_starts=PodStarts(count, NOW + timedelta(hours=1)))
        assert kinds(plan_for(raw, set_back)) == [Kind.POD]


def test_no_pod_on_a_claim_that_is_going() -> None:
    raw = storage_object()
    claim = desired_of(raw).claim
    assert claim is not None
    world = settled_world(raw)
    for going in (bound_claim(claim, **DELETED), bound_claim(claim, ownerReferences=[{"uid": "gone", "controller": True}])):
        plan = plan_for(raw, world.with_children(replace(world.children, claim=going, pod=None)))
        assert (plan.steps, plan.hold) == ((), "StorageNotReady")


def test_no_pod_on_a_claim_that_may_not_be_shared() -> None:
    raw = storage_object(storage={"claimName": "photos"})
    mine = {"metadata": {"name": "photos", "labels": {"userstorage.dev/shareable": "true"}}, "spec": {}}
    theirs = {"metadata": {"name": "photos"}, "spec": {}}
    world = replace(settled_world(storage_object()), storage=world_of(raw).storage)
    for claim, pods in ((mine, [Kind.POD]), (theirs, []), (None, [])):
        assert kinds(plan_for(raw, world.with_children(replace(world.children, claim=claim, pod=None)))) == pods


def test_damage_to_labels_is_repaired_in_place() -> None:
    raw = storage_object()
    world = settled_world(raw)
    pod = world.children.pod
    assert pod is not None
    bare = pod | {"metadata": pod["metadata"] | {"labels": {}}}
    [step] = plan_for(raw, world.with_children(replace(world.children, pod=bare))).steps
    assert isinstance(step, Patch)
    assert step.patch["metadata"]["labels"]["userId"] == "alice"


def test_deletion_ends_the_pod_then_waits_then_lets_go() -> None:
    raw = storage_object(meta=DELETED, lifecycle={"terminationGracePeriodSeconds": 7})
    world = settled_world(raw)
    first = decide_deletion(world)
    [step] = first.steps
    assert isinstance(step, DeletePod)
    assert step.grace_period == 7
    going = ready_pod(desired_of(raw).pod, **DELETED)
    waiting = decide_deletion(world.with_children(replace(world.children, pod=going)))
    assert waiting.steps == ()
    assert waiting.wake_at == first.wake_at
    gone = world.with_children(replace(world.children, pod=None))
    assert decide_deletion(gone).steps == (ReleaseFinalizer(),)


def test_deletion_leaves_a_strangers_pod_alone() -> None:
    raw = storage_object(meta=DELETED)
    stranger = stored(desired_of(raw).pod, ownerReferences=[])
    assert decide_deletion(world_of(raw, pod=stranger)).steps == (ReleaseFinalizer(),)


def test_deletion_without_our_finalizer_is_none_of_our_business() -> None:
    raw = storage_object(meta=DELETED | {"finalizers": ["somebody/else"]})
    assert decide_deletion(settled_world(raw)).steps == ()


def test_growth_comes_last_so_that_a_refusal_keeps_nobody_from_the_files() -> None:
    raw = storage_object(storage={"size": "20Gi"})
    world = settled_world(storage_object())
    assert plan_for(raw, replace(world, storage=world_of(raw).storage)).steps == (GROWN,)
    lost = world.with_children(replace(world.children, pod=None))
    made, grown = plan_for(raw, replace(lost, storage=world_of(raw).storage)).steps
    assert (kinds(Plan((made,))), grown) == ([Kind.POD], GROWN)


def test_an_owner_that_is_refused_keeps_no_claim_from_growing() -> None:
    raw = storage_object(storage={"size": "20Gi", "reclaimPolicy": "Delete"})
    owned, grown = plan_for(raw, replace(settled_world(storage_object()), storage=world_of(raw).storage)).steps
    assert isinstance(owned, Patch)
    assert owned.patch["metadata"].keys() == {"ownerReferences"}
    assert keeps_nobody_from_the_files(owned)
    assert grown == GROWN


def test_whoever_thinks_better_of_delete_keeps_the_claim_to_the_end() -> None:
    owned = settled_world(storage_object(storage={"reclaimPolicy": "Delete"}))
    deleting = world_of(storage_object(meta=DELETED, storage={"reclaimPolicy": "Retain"})).storage
    world = replace(owned, storage=deleting).with_children(replace(owned.children, pod=None))
    keep, release = decide_deletion(world).steps
    assert isinstance(keep, Patch)
    assert keep.patch == {"metadata": {"ownerReferences": None}}
    assert release == ReleaseFinalizer()


def test_a_claim_that_may_not_be_owned_keeps_nobody_from_the_files_until_the_end() -> None:
    """While the user lives, that it is refused is only told; at the end the claim has to be out of the garbage collector's hands."""
    raw = storage_object(storage={"reclaimPolicy": "Delete"})
    world = settled_world(storage_object())
    waiting = replace(world, storage=world_of(raw).storage).with_children(replace(world.children, pod=None))
    tend, _ = plan_for(raw, waiting).steps
    assert isinstance(tend, Patch)
    assert tend.patch["metadata"]["ownerReferences"]
    assert keeps_nobody_from_the_files(tend)
    owned = settled_world(raw)
    keep, _ = decide_deletion(replace(owned, storage=world_of(storage_object(meta=DELETED)).storage)).steps
    assert not keeps_nobody_from_the_files(keep)


def test_an_obstacle_does_not_keep_a_user_from_suspending() -> None:
    assert kinds(decide_obstructed(settled_world(storage_object(replicas=0)))) == [DeletePod]
    assert decide_obstructed(settled_world(storage_object())) == Plan()


def test_a_claim_of_others_may_have_any_owner() -> None:
    raw = storage_object(storage={"claimName": "photos"})
    labels = {"userstorage.dev/shareable": "true"}
    claim = {
        "metadata": {"name": "photos", "labels": labels, "ownerReferences": [{"uid": "x", "controller": True}]},
        "spec": {},
    }
    world = replace(settled_world(storage_object()), storage=world_of(raw).storage)
    assert kinds(plan_for(raw, world.with_children(replace(world.children, claim=claim, pod=None)))) == [Kind.POD]


def test_a_pod_without_its_hash_counts_as_lost() -> None:
    raw = storage_object()
    world = settled_world(raw)
    pod = world.children.pod
    assert pod is not None
    bare = pod | {"metadata": pod["metadata"] | {"annotations": {}}}
    [step] = plan_for(raw, world.with_children(replace(world.children, pod=bare))).steps
    assert isinstance(step, DeletePod)
    assert not step.asked_for


def test_an_obstacle_does_not_hide_that_the_pod_cannot_end() -> None:
    world = settled_world(storage_object(lifecycle={"deletionTimeout": "10m"}))
    pod = world.children.pod
    assert pod is not None
    ending = pod | {"metadata": pod["metadata"] | DELETED}
    plan = decide_obstructed(world.with_children(replace(world.children, pod=ending)))
    assert plan == Plan(wake_at=(parse_time(DELETED["deletionTimestamp"]) + timedelta(minutes=10),))
