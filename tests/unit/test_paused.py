"""Pauses: the annotation userstorage.dev/paused of one UserStorage, and rollout.paused of a class."""

from dataclasses import replace
from typing import Any

import pytest

from support.builders import CREATED, NOW, class_object, desired_of, settled_snapshot, snapshot_of, storage_object
from userstorage_operator.api.names import ANNOTATION_PAUSED, ANNOTATION_RESTARTED_AT
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.steps import DeletePod, Plan
from userstorage_operator.status.object_counts import ObjectCounts
from userstorage_operator.status.outcome import ApplyResult, Outcome
from userstorage_operator.status.report import report, status_patch
from userstorage_operator.status.rollout import member_state

PAUSED = {ANNOTATION_PAUSED: "true"}
STATUS = {
    "observedGeneration": 3,
    "phase": "Ready",
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "PodReady", "message": "", "lastTransitionTime": CREATED},
        {"type": "Stalled", "status": "False", "reason": "NotStalled", "message": "", "lastTransitionTime": CREATED},
    ],
}


def paused(meta: Unstructured | None = None, **spec: Any) -> Unstructured:
    return storage_object(meta={"annotations": PAUSED} | (meta or {}), **spec)


def outcome_of(snapshot: Snapshot) -> Outcome:
    return Outcome.of(ApplyResult(snapshot, plan(snapshot, NOW)), 0, NOW)


@pytest.mark.parametrize("missing", [(), ("pod",), ("network_policy", "service", "pvc", "pod")])
@pytest.mark.parametrize("spec", [{}, {"replicas": 0}, {"storage": {"readOnly": True}}])
def test_paused_user_storage_needs_no_steps(missing: tuple[str, ...], spec: Unstructured) -> None:
    settled = settled_snapshot(storage_object())
    children = replace(settled.children, **dict.fromkeys(missing))
    changed = paused({"finalizers": [], "annotations": PAUSED | {ANNOTATION_RESTARTED_AT: "now"}}, **spec)
    snapshot = replace(settled.with_children(children), storage=snapshot_of(changed).storage)
    found = plan(snapshot, NOW)
    assert (found.steps, found.requeue_at, found.hold, found.spec_error) == ((), (), None, None)


def test_deletion_of_paused_user_storage_is_carried_out() -> None:
    raw = paused({"deletionTimestamp": "2026-01-31T11:59:50Z"})
    snapshot = settled_snapshot(storage_object())
    [step] = plan(replace(snapshot, storage=snapshot_of(raw).storage), NOW).steps
    assert isinstance(step, DeletePod)


def test_status_of_paused_user_storage_changes_only_in_one_condition() -> None:
    snapshot = replace(snapshot_of(paused(meta={"generation": 4})), status=STATUS)
    patch = status_patch(report(outcome_of(snapshot), STATUS), STATUS)
    assert list(patch) == ["conditions"]
    assert patch["conditions"][:-1] == STATUS["conditions"]
    added = patch["conditions"][-1]
    assert (added["type"], added["status"], added["reason"]) == ("Paused", "True", "Paused")
    assert added["observedGeneration"] == 4
    after = STATUS | patch
    assert report(outcome_of(replace(snapshot, status=after)), after) == after


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, ""),
        ("false", ""),
        ("True", "the annotation userstorage.dev/paused is 'True'; only 'true' pauses"),
        ("yes", "the annotation userstorage.dev/paused is 'yes'; only 'true' pauses"),
        ("", "the annotation userstorage.dev/paused is ''; only 'true' pauses"),
    ],
)
def test_no_other_value_pauses(value: str | None, message: str) -> None:
    raw = storage_object(meta={"annotations": {} if value is None else {ANNOTATION_PAUSED: value}})
    snapshot = settled_snapshot(raw).with_children(replace(settled_snapshot(raw).children, pod=None))
    assert plan(snapshot, NOW).creates_pod
    [found] = [entry for entry in report(outcome_of(snapshot), {})["conditions"] if entry["type"] == "Paused"]
    assert (found["status"], found["reason"], found["message"]) == ("False", "NotPaused", message)


def test_paused_member_neither_waits_for_a_slot_nor_uses_one() -> None:
    snapshot = replace(settled_snapshot(storage_object()), storage=snapshot_of(paused()).storage, may_replace=False)
    newer = replace(snapshot, cls=UserStorageClass.parse(class_object(browser={"port": 9999})))
    member = member_state(outcome_of(newer))
    assert (member.outdated, member.deferred, member.running, member.waits_for_slot) == (True, True, False, False)
    assert not member.is_next
    down = member_state(outcome_of(newer.with_children(replace(newer.children, pod=None))))
    assert not replace(down, replaced=True).uses_slot


def test_paused_user_storages_are_counted_also_without_a_reconcile() -> None:
    counts = ObjectCounts()
    condition = {"type": "Paused", "status": "True", "reason": "Paused", "message": "", "lastTransitionTime": CREATED}
    for status in ({"conditions": [condition]}, {"observedGeneration": 3, "conditions": [condition]}):
        counts.update(paused() | {"status": status}, NOW)
        assert counts.counts(NOW).conditions["Paused", "True"] == 1
    counts.remove(Key("users", "alice"))
    assert counts.counts(NOW).conditions["Paused", "True"] == 0


HELD = UserStorageClass.parse(class_object(browser={"port": 9999}, rollout={"paused": True}))
BEFORE = UserStorageClass.parse(class_object())


def test_paused_rollout_replaces_no_pod_and_keeps_its_access() -> None:
    snapshot = replace(settled_snapshot(storage_object(), BEFORE), cls=HELD, may_replace=True)
    found = plan(snapshot, NOW)
    assert found.steps == ()
    outcome = outcome_of(snapshot)
    [entry] = [entry for entry in report(outcome, {})["conditions"] if entry["type"] == "PodUpToDate"]
    assert (entry["status"], entry["reason"]) == ("False", "RolloutPaused")
    member = member_state(outcome)
    assert (member.outdated, member.deferred, member.waits_for_slot) == (True, False, False)
    going_on = replace(snapshot, cls=replace(HELD, rollout_paused=False), may_replace=False)
    assert member_state(outcome_of(going_on)).waits_for_slot


def test_paused_rollout_still_replaces_failed_pods_and_serves_new_users() -> None:
    snapshot = replace(settled_snapshot(storage_object(), BEFORE), cls=HELD)
    failed = (snapshot.children.pod or {}) | {"status": {"phase": "Failed"}}
    [step] = plan(snapshot.with_children(replace(snapshot.children, pod=failed)), NOW).steps
    assert isinstance(step, DeletePod)
    assert step.reason.startswith("it has terminated")
    assert plan(snapshot_of(storage_object(), HELD), NOW).creates_pod
    own = replace(snapshot, storage=snapshot_of(storage_object(storage={"readOnly": True})).storage)
    [step] = [step for step in plan(own, NOW).steps if isinstance(step, DeletePod)]
    assert step.reason == "the spec asks for another pod"


def test_pod_of_the_current_class_is_up_to_date_while_the_rollout_is_paused() -> None:
    snapshot = settled_snapshot(storage_object(), HELD)
    assert plan(snapshot, NOW) == Plan(desired=desired_of(storage_object(), HELD))
    assert snapshot.own(Kind.POD) is not None
    assert member_state(outcome_of(snapshot)).updated
