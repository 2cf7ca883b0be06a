"""The budget of a rollout: how a UserStorage stands, and whose turn it is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.builders import NOW, class_object, desired_of, dufs_class, settled_world, snapshot_of, storage_object
from userstorage_operator.api.errors import NameConflict, OperatorError, QuotaExceeded
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan_changes
from userstorage_operator.plan.steps import DeletePod, Patch, Plan
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.status.outcome import Failure, Outcome
from userstorage_operator.status.rollout import MemberState, WaitingFor, member_state, unavailable_budget

NEWER = dufs_class(browser={"flavor": "Dufs", "image": "dufs:newer"})
OLDER = dufs_class()


def verdict_of(
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
def test_the_budget_is_never_none(max_unavailable: str, running: int, slots: int) -> None:
    assert unavailable_budget(max_unavailable, running) == slots


def test_a_change_of_the_class_waits_for_its_turn() -> None:
    snapshot = held_back(settled_world(storage_object(), OLDER))
    assert plan_changes(snapshot, desired_of(storage_object(), NEWER), NOW).steps == ()
    [step] = plan_changes(replace(snapshot, may_replace=True), desired_of(storage_object(), NEWER), NOW).steps
    assert isinstance(step, DeletePod)


def test_a_change_of_the_users_own_does_not_wait() -> None:
    changed = storage_object(storage={"readOnly": True})
    snapshot = replace(held_back(settled_world(storage_object(), OLDER)), storage=snapshot_of(changed).storage)
    [step] = plan_changes(snapshot, desired_of(changed, NEWER), NOW).steps
    assert isinstance(step, DeletePod)


def test_a_pod_that_waits_is_still_found_by_its_service() -> None:
    snapshot = held_back(settled_world(storage_object(), OLDER))
    pod = snapshot.children.pod
    assert pod is not None
    lost = pod | {"metadata": pod["metadata"] | {"labels": {"app": "filebrowser"}}}
    [step] = plan_changes(
        snapshot.with_children(replace(snapshot.children, pod=lost)), desired_of(storage_object(), NEWER), NOW
    ).steps
    assert isinstance(step, Patch)
    assert step.patch["metadata"].keys() == {"labels"}
    assert step.patch["metadata"]["labels"]["userId"] == "alice"


def test_how_a_user_stands() -> None:
    settled = settled_world(storage_object(), OLDER)
    good = member_state(verdict_of(settled, OLDER))
    assert good == MemberState("standard", 1, running=True, available=True, updated=True)
    waiting = member_state(verdict_of(held_back(settled), NEWER))
    assert waiting == replace(good, updated=False, outdated=True, waiting_for=WaitingFor.ROLLOUT_SLOT)
    nothing = snapshot_of(storage_object(), OLDER)
    assert member_state(verdict_of(nothing, OLDER)) == replace(good, available=False, updated=False)
    full = member_state(replace(verdict_of(nothing, OLDER, error=QuotaExceeded("full")), desired=None))
    assert full == replace(good, running=False, available=False, updated=False, failed=True, waiting_for=WaitingFor.QUOTA)


def test_what_the_class_cannot_have_caused_takes_nobodys_turn() -> None:
    nothing = snapshot_of(storage_object(), OLDER)
    assert not member_state(verdict_of(nothing, OLDER, error=NameConflict("taken"))).running
    assert not member_state(verdict_of(nothing, OLDER, Plan(hold="StorageNotReady"))).running
    assert member_state(verdict_of(nothing, OLDER, Plan(hold="PodBackoff"))).running
    soft = Failure(NameConflict("an Ingress is in the way"), 1, None, non_blocking=True)
    assert member_state(replace(verdict_of(nothing, OLDER), failure=soft)).running
    assert member_state(verdict_of(nothing, OLDER, error=OperatorError("the image is not allowed", "Forbidden"))).running


class Platform:
    """Users of one class, their pods, and the operator's passes over them in whatever order they are woken."""

    def __init__(self, users: int, max_unavailable: str) -> None:
        self.cls = UserStorageClass.parse(class_object(rollout={"maxUnavailable": max_unavailable}))
        self.woken: dict[Key, None] = {}
        self.told: list[str] = []
        self.book = RolloutTracker(self.woken.setdefault, self.told.append)
        self.keys = [Key("users", f"u{number}") for number in range(users)]
        self.updated = dict.fromkeys(self.keys, False)
        self.ready = dict.fromkeys(self.keys, True)
        self.class_of = dict.fromkeys(self.keys, self.cls)
        self.book.expect(self.keys)

    def observe(self, key: Key) -> MemberState:
        waits = None if self.updated[key] else WaitingFor.ROLLOUT_SLOT
        cls, updated = self.class_of[key], self.updated[key]
        return MemberState(
            cls.name,
            cls.generation,
            running=True,
            available=self.ready[key],
            updated=updated,
            outdated=not updated,
            waiting_for=waits,
        )

    def look_at_all(self) -> None:
        for key in self.keys:
            self.book.record(key, self.observe(key))
            self.book.mark_observed(key)

    def pass_over(self, key: Key) -> None:
        if not self.updated[key] and self.book.may_replace(key, self.class_of[key]):
            self.book.mark_unavailable(key, self.class_of[key])
            self.updated[key], self.ready[key] = True, False
        self.book.record(key, self.observe(key))
        self.book.mark_observed(key)

    @property
    def down(self) -> int:
        return sum(not ready for ready in self.ready.values())


@given(st.data(), st.integers(1, 30), st.sampled_from(["1", "3", "10%", "50%"]))
def test_never_more_than_the_budget_down_and_all_updated_in_the_end(
    data: st.DataObject, users: int, max_unavailable: str
) -> None:
    platform = Platform(users, max_unavailable)
    slots = unavailable_budget(max_unavailable, users)
    for key in data.draw(st.permutations(platform.keys)):
        platform.pass_over(key)
        assert platform.down <= slots
    for _ in range(10 * users):
        down = [key for key in platform.keys if not platform.ready[key]]
        if not platform.woken and not down:
            break
        if down and (not platform.woken or data.draw(st.booleans())):
            key = data.draw(st.sampled_from(down))
            platform.ready[key] = True
        else:
            key = next(iter(platform.woken))
            del platform.woken[key]
        platform.pass_over(key)
        assert platform.down <= slots
    assert all(platform.updated.values())
    assert platform.down == 0
    assert platform.book.counts(platform.cls.name, 1)["updated"] == users


def test_the_counts_of_one_user_are_numbers() -> None:
    platform = Platform(1, "1")
    platform.book.record(platform.keys[0], platform.observe(platform.keys[0]))
    assert all(type(count) is int for count in platform.book.counts(platform.cls.name, 1).values())


def test_nobody_is_taken_down_before_everybody_has_been_looked_at() -> None:
    platform = Platform(3, "100%")
    platform.pass_over(platform.keys[0])
    platform.pass_over(platform.keys[1])
    assert platform.down == 0
    platform.book.mark_observed(platform.keys[2])  # however that pass ended
    assert list(platform.woken) == platform.keys[:2]


def test_who_is_down_already_needs_no_turn() -> None:
    platform = Platform(10, "1")
    platform.ready = dict.fromkeys(platform.keys, False)
    platform.look_at_all()
    for key in platform.keys:
        platform.pass_over(key)
    assert all(platform.updated.values())


def test_a_failed_deletion_gives_its_turn_back() -> None:
    platform = Platform(2, "1")
    platform.look_at_all()
    first, second = platform.keys
    platform.book.mark_unavailable(first, platform.cls)
    assert not platform.book.may_replace(second, platform.cls)
    platform.book.record(first, platform.observe(first))
    assert platform.book.may_replace(second, platform.cls)


def test_a_place_that_comes_free_wakes_those_of_the_namespace_who_wait_for_it() -> None:
    platform = Platform(1, "1")
    waiting = replace(platform.observe(platform.keys[0]), running=False, waiting_for=WaitingFor.QUOTA)
    platform.book.record(platform.keys[0], platform.observe(platform.keys[0]))
    platform.book.record(Key("users", "waits"), waiting)
    platform.book.record(Key("elsewhere", "waits"), waiting)
    platform.woken.clear()
    platform.book.record(platform.keys[0], None)
    assert list(platform.woken) == [Key("users", "waits")]


def test_only_news_is_told() -> None:
    platform = Platform(1, "1")
    platform.book.record(platform.keys[0], platform.observe(platform.keys[0]))
    platform.book.record(platform.keys[0], platform.observe(platform.keys[0]))
    assert platform.told == [platform.cls.name]


def test_users_who_come_to_another_class_keep_to_its_budget() -> None:
    """The default class moves: none of them is known to the new class yet, and passes over them run side by side."""
    platform = Platform(40, "10%")
    platform.look_at_all()
    other = UserStorageClass.parse(class_object("other", rollout={"maxUnavailable": "10%"}))
    platform.class_of = dict.fromkeys(platform.keys, other)
    turns = [key for key in platform.keys if platform.book.may_replace(key, other)]
    taken = []
    for key in turns:
        if platform.book.may_replace(key, other):
            platform.book.mark_unavailable(key, other)
            taken.append(key)
    assert len(taken) == 1  # of a class that has no users yet one may be down
    assert platform.book.counts(other.name, 1)["unavailable"] == 1


def test_who_was_not_looked_at_since_the_class_changed_is_pending() -> None:
    platform = Platform(3, "1")
    platform.updated = dict.fromkeys(platform.keys, True)
    platform.look_at_all()
    assert platform.book.counts(platform.cls.name, 1)["updated"] == 3
    counts = platform.book.counts(platform.cls.name, 2)
    assert (counts["users"], counts["updated"], counts["pending"]) == (3, 0, 3)


def test_a_class_without_users_is_forgotten() -> None:
    platform = Platform(1, "1")
    platform.look_at_all()
    platform.book.record(platform.keys[0], None)
    assert platform.book._classes == {}


def test_a_tenants_own_obstacles_take_nobodys_turn() -> None:
    placed = storage_object(scheduling={"nodeSelector": {"no": "where"}})
    unschedulable = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4"}]}
    for raw, running in ((placed, False), (storage_object(), True)):
        snapshot = settled_world(raw, OLDER)
        pod = (snapshot.children.pod or {}) | {"status": unschedulable}
        outcome = Outcome(
            snapshot.with_children(replace(snapshot.children, pod=pod)), desired_of(raw, OLDER), Plan(), failure=None, now=NOW
        )
        assert member_state(outcome).running is running
    assert not member_state(
        verdict_of(snapshot_of(storage_object(), OLDER), OLDER, error=OperatorError("", "QuotaExceeded"))
    ).running


def test_a_pod_from_before_the_hash_of_the_users_part_waits_for_its_turn() -> None:
    snapshot = held_back(settled_world(storage_object(), OLDER))
    pod = snapshot.children.pod
    assert pod is not None
    annotations = {key: value for key, value in pod["metadata"]["annotations"].items() if key != "userstorage.dev/spec-hash"}
    older = pod | {"metadata": pod["metadata"] | {"annotations": annotations}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=older))
    assert plan_changes(snapshot, desired_of(storage_object(), NEWER), NOW).steps == ()
