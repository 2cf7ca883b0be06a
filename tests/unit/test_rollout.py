"""The rollout of a class: the state of each member, and the budget of unavailable members."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW, class_object, desired_of, dufs_class, ready_pod, settled_snapshot, snapshot_of, storage_object
from userstorage_operator.api.errors import InvalidSpec, NameConflict, OperatorError, QuotaExceeded
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan_changes
from userstorage_operator.plan.steps import DeletePod, Patch, Plan
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.status.outcome import Failure, Outcome
from userstorage_operator.status.rollout import MemberState, member_state, unavailable_budget

NEWER = dufs_class(browser={"flavor": "Dufs", "image": "dufs:newer"})
OLDER = dufs_class()


def outcome_of(
    snapshot: Snapshot, cls: UserStorageClass, plan: Plan | None = None, error: OperatorError | None = None
) -> Outcome:
    failure = Failure(error, 1, None) if error is not None else None
    return Outcome(snapshot, desired_of(storage_object(), cls), plan or Plan(), failure, NOW)


def held_back(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, cls=NEWER, may_replace=False)


@pytest.mark.parametrize(
    ("max_unavailable", "running", "slots"),
    [("10%", 200, 20), ("10%", 201, 21), ("10%", 0, 1), ("1%", 5, 1), ("100%", 7, 7), ("3", 200, 3), ("3", 0, 3)],
)
def test_budget_is_at_least_one(max_unavailable: str, running: int, slots: int) -> None:
    assert unavailable_budget(max_unavailable, running) == slots


def test_class_change_waits_for_rollout_slot() -> None:
    snapshot = held_back(settled_snapshot(storage_object(), OLDER))
    assert plan_changes(snapshot, desired_of(storage_object(), NEWER), NOW).steps == ()
    [step] = plan_changes(replace(snapshot, may_replace=True), desired_of(storage_object(), NEWER), NOW).steps
    assert isinstance(step, DeletePod)


def test_own_spec_change_does_not_wait() -> None:
    changed = storage_object(storage={"readOnly": True})
    snapshot = replace(held_back(settled_snapshot(storage_object(), OLDER)), storage=snapshot_of(changed).storage)
    [step] = plan_changes(snapshot, desired_of(changed, NEWER), NOW).steps
    assert isinstance(step, DeletePod)


def test_outdated_pod_keeps_labels_of_service() -> None:
    snapshot = held_back(settled_snapshot(storage_object(), OLDER))
    pod = snapshot.children.pod
    assert pod is not None
    lost = pod | {"metadata": pod["metadata"] | {"labels": {"app": "filebrowser"}}}
    [step] = plan_changes(
        snapshot.with_children(replace(snapshot.children, pod=lost)), desired_of(storage_object(), NEWER), NOW
    ).steps
    assert isinstance(step, Patch)
    assert step.patch["metadata"].keys() == {"labels"}
    assert step.patch["metadata"]["labels"]["userId"] == "alice"


def test_member_state_follows_outcome() -> None:
    settled = settled_snapshot(storage_object(), OLDER)
    healthy = member_state(outcome_of(settled, OLDER))
    assert healthy == MemberState("standard", 1, running=True, available=True, updated=True)
    waiting = member_state(outcome_of(held_back(settled), NEWER))
    assert waiting == replace(healthy, updated=False, outdated=True, waits_for_slot=True)
    nothing = snapshot_of(storage_object(), OLDER)
    assert member_state(outcome_of(nothing, OLDER)) == replace(healthy, available=False, updated=False)
    full = member_state(replace(outcome_of(nothing, OLDER, error=QuotaExceeded("full")), desired=None))
    assert full == replace(healthy, running=False, available=False, updated=False, failed=True)


@pytest.mark.parametrize("trouble", ["withdrawn", "terminating"])
def test_pod_that_is_kept_for_its_claim_does_not_hold_up_the_rollout(trouble: str) -> None:
    raw = storage_object(storage={"claimName": "homes"}) if trouble == "withdrawn" else storage_object()
    claim = settled_snapshot(storage_object()).children.pvc or {}
    if trouble == "terminating":
        claim |= {"metadata": claim["metadata"] | {"deletionTimestamp": "2026-01-31T11:59:50Z"}}
    snapshot = snapshot_of(raw, OLDER, pvc=claim, pod=ready_pod(desired_of(raw, OLDER).pod))
    for may_replace in (False, True):
        kept = replace(snapshot, cls=NEWER, may_replace=may_replace)
        state = member_state(Outcome(kept, desired_of(raw, NEWER), Plan(), failure=None, now=NOW))
        assert (state.running, state.available, state.outdated, state.deferred) == (True, True, True, True)
        assert not state.is_next
    platform = Platform(3, "1")
    first, down, other = platform.keys
    platform.ready[down], platform.updated[other] = False, True
    platform.observe_all()
    platform.tracker.record(first, replace(state, class_name=platform.cls.name))
    assert platform.tracker.may_replace(down, platform.cls, available=False)


def test_own_problem_excludes_member_from_budget() -> None:
    nothing = snapshot_of(storage_object(), OLDER)
    assert not member_state(outcome_of(nothing, OLDER, error=NameConflict("taken"))).running
    assert not member_state(outcome_of(nothing, OLDER, Plan(hold="StorageNotReady"))).running
    assert member_state(outcome_of(nothing, OLDER, Plan(hold="PodBackoff"))).running
    non_blocking_failure = Failure(NameConflict("an Ingress is in the way"), 1, None, non_blocking=True)
    assert member_state(replace(outcome_of(nothing, OLDER), failure=non_blocking_failure)).running
    assert member_state(outcome_of(nothing, OLDER, error=OperatorError("the image is not allowed", "Forbidden"))).running


class Platform:
    """Simulate the members of one class, their pods, and reconciles in any order."""

    def __init__(self, users: int, max_unavailable: str, namespaces: int = 1) -> None:
        self.cls = UserStorageClass.parse(class_object(rollout={"maxUnavailable": max_unavailable}))
        self.requeued: dict[Key, None] = {}
        self.reported: list[str] = []
        self.keys = [Key(f"users{number % namespaces}", f"u{number}") for number in range(users)]
        self.updated = dict.fromkeys(self.keys, False)
        self.ready = dict.fromkeys(self.keys, True)
        self.class_of = dict.fromkeys(self.keys, self.cls)
        self.broken: set[Key] = set()
        """Those who never get ready, whatever pod they have."""
        self.taken_down: set[Key] = set()
        """Those whose pod was replaced while it was ready, and who have not been ready since."""
        self.start()

    def start(self) -> None:
        """Start the operator, or another one after a kill -9."""
        self.time = 0.0
        self.requeued.clear()
        self.tracker = RolloutTracker(self.requeued.setdefault, self.reported.append, lambda: self.time)
        self.tracker.expect(self.keys)

    def observe(self, key: Key) -> MemberState:
        waits_for_slot = not self.updated[key]
        cls, updated = self.class_of[key], self.updated[key]
        return MemberState(
            cls.name,
            cls.generation,
            running=True,
            available=self.ready[key],
            updated=updated,
            outdated=not updated,
            failed=key in self.broken and not self.ready[key],
            waits_for_slot=waits_for_slot,
        )

    def observe_all(self) -> None:
        for key in self.keys:
            self.tracker.record(key, self.observe(key))
            self.tracker.mark_reconciled(key)

    def reconcile(self, key: Key) -> None:
        ready = self.ready[key]
        if not self.updated[key] and self.tracker.may_replace(key, self.class_of[key], available=ready):
            self.tracker.mark_unavailable(key, self.class_of[key], by_rollout=True, available=ready)
            self.updated[key], self.ready[key] = True, False
            if ready:
                self.taken_down.add(key)
        self.tracker.record(key, self.observe(key))
        self.tracker.mark_reconciled(key)

    def get_ready(self, key: Key) -> None:
        self.ready[key] = True
        self.taken_down.discard(key)

    @property
    def down(self) -> int:
        return sum(not ready for ready in self.ready.values())

    def roll_out(self, choose: Callable[[list[Any]], Any], slots: int, restarts: int = 0) -> None:
        """Continue until nothing is left to do, with the operator killed up to `restarts` times."""
        for key in choose([self.keys, self.keys[::-1]]):
            self.reconcile(key)
        for _ in range(20 * len(self.keys)):
            starting = [key for key in self.keys if not self.ready[key] and key not in self.broken]
            options = ["ready"] * bool(starting) + ["requeued"] * bool(self.requeued) + ["kill"] * bool(restarts)
            if not options[: 2 if restarts else None] or options == ["kill"]:
                break
            match choose(options):
                case "ready":
                    key = choose(starting)
                    self.get_ready(key)
                    self.reconcile(key)
                case "requeued":
                    key = next(iter(self.requeued))
                    del self.requeued[key]
                    self.reconcile(key)
                case _:
                    restarts -= 1
                    self.start()
                    for key in choose([self.keys, self.keys[::-1]]):
                        self.reconcile(key)
            assert len(self.taken_down) <= slots


@given(st.data(), st.integers(1, 30), st.sampled_from(["1", "3", "10%", "50%"]), st.integers(1, 3))
def test_budget_is_kept_and_all_members_are_updated(
    data: st.DataObject, users: int, max_unavailable: str, namespaces: int
) -> None:
    platform = Platform(users, max_unavailable, namespaces)
    platform.roll_out(
        lambda options: data.draw(st.sampled_from(options)), unavailable_budget(max_unavailable, users), restarts=2
    )
    assert all(platform.updated.values())
    assert platform.down == 0
    assert platform.tracker.counts(platform.cls.name, 1)["updated"] == users
    assert platform.tracker.longest_standstill() == 0


@given(st.data(), st.integers(2, 30), st.sampled_from(["1", "3", "10%", "50%"]), st.integers(1, 3))
def test_members_that_were_down_before_use_no_slot(
    data: st.DataObject, users: int, max_unavailable: str, namespaces: int
) -> None:
    platform = Platform(users, max_unavailable, namespaces)
    platform.broken = data.draw(st.sets(st.sampled_from(platform.keys)))
    platform.ready |= dict.fromkeys(platform.broken, False)
    platform.roll_out(
        lambda options: data.draw(st.sampled_from(options)), unavailable_budget(max_unavailable, users), restarts=2
    )
    assert all(platform.updated.values())
    assert platform.down == len(platform.broken)


@pytest.mark.parametrize("max_unavailable", ["2", "3", "10%"])
def test_failing_namespace_holds_up_itself_only(max_unavailable: str) -> None:
    platform = Platform(40, max_unavailable, namespaces=4)
    platform.broken = {key for key in platform.keys if key.namespace == "users0"}  # ready until their pod is replaced
    slots = unavailable_budget(max_unavailable, 40)
    platform.roll_out(lambda options: options[0], 3 * slots)
    assert {key.namespace for key, updated in platform.updated.items() if not updated} <= {"users0"}
    assert platform.down <= 2 * slots  # its own, which are excused in proportion to those that came back


def test_pod_that_starts_nowhere_stops_rollout() -> None:
    for max_unavailable, namespaces in (("1", 1), ("3", 1), ("10%", 4)):
        platform = Platform(40, max_unavailable, namespaces)
        platform.broken = set(platform.keys)
        slots = unavailable_budget(max_unavailable, 40)
        platform.roll_out(lambda options: options[0], slots, restarts=3)
        assert platform.down == slots
        platform.time += 900
        assert platform.tracker.longest_standstill() == 900


def test_corrected_class_reaches_unavailable_members() -> None:
    platform = Platform(20, "10%")
    platform.broken = set(platform.keys)
    platform.roll_out(lambda options: options[0], 2)
    platform.cls = UserStorageClass.parse(class_object(meta={"generation": 2}, rollout={"maxUnavailable": "10%"}))
    platform.class_of = dict.fromkeys(platform.keys, platform.cls)
    platform.updated = dict.fromkeys(platform.keys, False)
    platform.broken.clear()
    platform.taken_down.clear()
    platform.roll_out(lambda options: options[0], 2)
    assert all(platform.updated.values())
    assert platform.down == 0


def test_members_that_are_down_wait_until_others_came_back() -> None:
    platform = Platform(10, "10%")
    down, *others = platform.keys
    platform.broken, platform.ready[down] = {down}, False
    platform.observe_all()
    assert not platform.tracker.may_replace(down, platform.cls, available=False)
    platform.reconcile(others[0])
    assert not platform.tracker.may_replace(down, platform.cls, available=False)
    platform.get_ready(others[0])
    platform.reconcile(others[0])
    assert platform.tracker.may_replace(down, platform.cls, available=False)


def test_own_change_and_eviction_use_no_slot() -> None:
    platform = Platform(2, "1")
    platform.updated[platform.keys[0]] = True
    platform.observe_all()
    first, second = platform.keys
    platform.tracker.mark_unavailable(first, platform.cls, by_rollout=False, available=True)
    assert platform.tracker.may_replace(second, platform.cls, available=True)
    platform.tracker.mark_unavailable(first, platform.cls, by_rollout=True, available=True)
    assert not platform.tracker.may_replace(second, platform.cls, available=True)
    evicted = replace(platform.observe(first), available=False, updated=False, evicted=True)
    platform.tracker.record(first, evicted)
    assert platform.tracker.may_replace(second, platform.cls, available=True)


def test_counts_of_one_member_are_integers() -> None:
    platform = Platform(1, "1")
    platform.tracker.record(platform.keys[0], platform.observe(platform.keys[0]))
    assert all(type(count) is int for count in platform.tracker.counts(platform.cls.name, 1).values())


def test_no_pod_is_replaced_before_all_members_are_reconciled_once() -> None:
    platform = Platform(3, "100%")
    platform.reconcile(platform.keys[0])
    platform.reconcile(platform.keys[1])
    assert platform.down == 0
    platform.tracker.mark_reconciled(platform.keys[2])  # also if that reconcile failed
    assert list(platform.requeued) == platform.keys[:2]


def test_unavailable_member_needs_no_slot() -> None:
    platform = Platform(10, "1")
    platform.ready = dict.fromkeys(platform.keys, False)
    platform.observe_all()
    for key in platform.keys:
        platform.reconcile(key)
    assert all(platform.updated.values())


def test_failed_deletion_releases_slot() -> None:
    platform = Platform(2, "1")
    platform.observe_all()
    first, second = platform.keys
    platform.tracker.mark_unavailable(first, platform.cls, by_rollout=True, available=True)
    assert not platform.tracker.may_replace(second, platform.cls, available=True)
    platform.tracker.record(first, platform.observe(first))
    assert platform.tracker.may_replace(second, platform.cls, available=True)


def test_unchanged_member_state_is_not_reported_again() -> None:
    platform = Platform(1, "1")
    platform.tracker.record(platform.keys[0], platform.observe(platform.keys[0]))
    platform.tracker.record(platform.keys[0], platform.observe(platform.keys[0]))
    assert platform.reported == [platform.cls.name]


def test_members_moved_to_another_class_do_not_exceed_its_budget() -> None:
    """Move the default: the new class does not know its members yet, and they are reconciled concurrently."""
    platform = Platform(40, "10%")
    platform.observe_all()
    other = UserStorageClass.parse(class_object("other", rollout={"maxUnavailable": "10%"}))
    platform.class_of = dict.fromkeys(platform.keys, other)
    turns = [key for key in platform.keys if platform.tracker.may_replace(key, other, available=True)]
    taken = []
    for key in turns:
        if platform.tracker.may_replace(key, other, available=True):
            platform.tracker.mark_unavailable(key, other, by_rollout=True, available=True)
            taken.append(key)
    assert len(taken) == 1  # one member of a class without members may be unavailable
    assert platform.tracker.counts(other.name, 1)["unavailable"] == 1


def test_member_not_reconciled_since_class_change_is_pending() -> None:
    platform = Platform(3, "1")
    platform.updated = dict.fromkeys(platform.keys, True)
    platform.observe_all()
    assert platform.tracker.counts(platform.cls.name, 1)["updated"] == 3
    counts = platform.tracker.counts(platform.cls.name, 2)
    assert (counts["users"], counts["updated"], counts["pending"]) == (3, 0, 3)


def test_class_without_members_is_dropped() -> None:
    platform = Platform(1, "1")
    platform.observe_all()
    platform.tracker.record(platform.keys[0], None)
    assert platform.tracker._classes == {}


def test_problem_caused_by_tenant_excludes_member_from_budget() -> None:
    placed = storage_object(scheduling={"nodeSelector": {}})
    unschedulable = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4"}]}
    for raw, running in ((placed, False), (storage_object(), True)):
        snapshot = settled_snapshot(raw, OLDER)
        pod = (snapshot.children.pod or {}) | {"status": unschedulable}
        outcome = Outcome(
            snapshot.with_children(replace(snapshot.children, pod=pod)), desired_of(raw, OLDER), Plan(), failure=None, now=NOW
        )
        assert member_state(outcome).running is running
    assert not member_state(
        outcome_of(snapshot_of(storage_object(), OLDER), OLDER, error=OperatorError("", "QuotaExceeded"))
    ).running


def test_pod_without_spec_hash_waits_for_rollout_slot() -> None:
    snapshot = held_back(settled_snapshot(storage_object(), OLDER))
    pod = snapshot.children.pod
    assert pod is not None
    annotations = {key: value for key, value in pod["metadata"]["annotations"].items() if key != "userstorage.dev/spec-hash"}
    older = pod | {"metadata": pod["metadata"] | {"annotations": annotations}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=older))
    assert plan_changes(snapshot, desired_of(storage_object(), NEWER), NOW).steps == ()


def test_member_that_recovered_needs_a_slot() -> None:
    platform = Platform(3, "1")
    recovered, other, _ = platform.keys
    platform.ready[recovered] = False
    platform.observe_all()
    platform.reconcile(other)  # takes the only slot
    assert not platform.tracker.may_replace(recovered, platform.cls, available=True)


@pytest.mark.parametrize("text", ["\u0665", "\u00b2", "5%%", "0", "0%", "101%", "1_0", " 5", "-1", True, 1.5, [5]])
def test_budget_that_an_older_crd_admits_is_refused_by_the_operator(text: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"class spec.rollout.maxUnavailable"):
        UserStorageClass.parse(class_object(rollout={"maxUnavailable": text}))
