"""Counts of UserStorages, updated on every change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.userstorage import Key
from userstorage_operator.status.object_counts import CONDITIONS, FAILURE_REASONS, PHASES, ObjectCounts

BORN = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALICE = Key("ns", "alice")
NEVER = "1970-01-01T00:00:00Z"


def at(seconds: float) -> datetime:
    return BORN + timedelta(seconds=seconds)


def storage(
    ready: str = "True",
    reason: str = "PodReady",
    phase: str = "Ready",
    *,
    name: str = "alice",
    uid: str = "1",
    flipped: float = 0,
    resumed: float = 0,
    reconciled: bool = True,
    **spec: Any,
) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": ready, "reason": reason, "lastTransitionTime": format_time(at(flipped))},
        {"type": "Suspended", "status": "False", "reason": "Running", "lastTransitionTime": format_time(at(resumed))},
    ]
    meta = {"namespace": "ns", "name": name, "uid": uid, "creationTimestamp": format_time(BORN)}
    status = {"phase": phase, "conditions": conditions} | ({"observedGeneration": 1} if reconciled else {})
    return {"metadata": meta, "spec": {"userID": name, **spec}, "status": status}


def unreconciled(**changes: Any) -> dict[str, Any]:
    """Return an object with the default status of the schema."""
    raw = storage("Unknown", "Pending", "Pending", reconciled=False, **changes)
    raw["status"]["conditions"][0]["lastTransitionTime"] = NEVER
    return raw


def deleting(timeout: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"lifecycle": {"deletionTimeout": timeout}} if timeout else {}
    raw = storage("False", "Terminating", "Terminating", **spec)
    raw["metadata"]["deletionTimestamp"] = format_time(at(0))
    return raw


def test_every_count_starts_at_zero() -> None:
    counts = ObjectCounts().counts(BORN)
    assert (tuple(counts.phases), tuple(counts.conditions), tuple(counts.failure_reasons)) == (
        PHASES,
        CONDITIONS,
        FAILURE_REASONS,
    )
    assert {*counts.phases.values(), *counts.conditions.values(), *counts.failure_reasons.values()} == {0}
    assert (counts.not_ready_longest, counts.long_not_ready, counts.deletions, counts.deletion_oldest) == (0, 0, 0, 0)


def test_counts_follow_updates_and_removals() -> None:
    object_counts = ObjectCounts()
    object_counts.update(storage("False", "CrashLoopBackOff", "Degraded"), BORN)
    object_counts.update(storage(name="bob", uid="2"), BORN)
    before = object_counts.counts(BORN)
    assert (before.phases["Degraded"], before.phases["Ready"], before.failure_reasons["CrashLoopBackOff"]) == (1, 1, 1)
    assert (before.conditions["Ready", "False"], before.conditions["Ready", "True"]) == (1, 1)
    object_counts.update(storage(), BORN)
    object_counts.remove(Key("ns", "bob"))
    after = object_counts.counts(BORN)
    assert (after.phases["Degraded"], after.phases["Ready"], after.failure_reasons["CrashLoopBackOff"]) == (0, 1, 0)
    object_counts.remove(ALICE)
    assert object_counts.counts(BORN) == ObjectCounts().counts(BORN)


def test_unknown_values_are_not_counted() -> None:
    object_counts = ObjectCounts()
    object_counts.update(storage("Perhaps", "alice@example.org", "Confused"), BORN)
    counts = object_counts.counts(BORN)
    assert (tuple(counts.phases), tuple(counts.conditions), tuple(counts.failure_reasons)) == (
        PHASES,
        CONDITIONS,
        FAILURE_REASONS,
    )
    assert counts.phases["Pending"] == 1


def test_default_conditions_of_schema_are_not_counted() -> None:
    object_counts = ObjectCounts()
    object_counts.update(unreconciled(), BORN)
    counts = object_counts.counts(at(700))
    assert counts.conditions["Ready", "False"] == 0
    assert (counts.phases["Pending"], counts.not_ready_longest, counts.long_not_ready) == (1, 700, 1)


@pytest.mark.parametrize(
    ("raw", "longest"),
    [
        (storage("False", "PodPending", "Starting", flipped=100), 500),
        (storage("False", "PodPending", "Starting", flipped=100, resumed=580), 20),
        (storage("False", "Suspended", "Suspended", flipped=100, replicas=0), 0),
        (storage(flipped=100), 0),
        (deleting(), 0),
    ],
    ids=["not ready", "resumed", "suspended", "ready", "deleting"],
)
def test_time_not_ready_counts_only_storages_that_should_be_ready(raw: dict[str, Any], longest: float) -> None:
    object_counts = ObjectCounts()
    object_counts.update(raw, BORN)
    counts = object_counts.counts(at(600))
    assert counts.not_ready_longest == longest
    assert counts.long_not_ready == 0
    assert object_counts.counts(at(701)).long_not_ready == (1 if longest == 500 else 0)


def test_longest_time_not_ready_follows_updates_and_removals() -> None:
    object_counts = ObjectCounts()
    for name, since in (("alice", 300), ("bob", 100), ("carol", 200)):
        object_counts.update(storage("False", "PodPending", name=name, uid=name, flipped=since), BORN)
    assert object_counts.counts(at(400)).not_ready_longest == 300
    object_counts.remove(Key("ns", "bob"))
    assert object_counts.counts(at(400)).not_ready_longest == 200


@pytest.mark.parametrize(("timeout", "due"), [(None, 600), ("30s", 30)])
def test_deletion_is_overdue_after_its_own_timeout(timeout: str | None, due: float) -> None:
    object_counts = ObjectCounts()
    object_counts.update(deleting(timeout), BORN)
    assert object_counts.counts(at(due)).deletions_overdue == 0
    counts = object_counts.counts(at(due + 1))
    assert (counts.deletions, counts.deletion_oldest, counts.deletions_overdue) == (1, due + 1, 1)


def test_clock_behind_gives_no_negative_age() -> None:
    object_counts = ObjectCounts()
    object_counts.update(deleting(), BORN)
    assert object_counts.counts(at(-5)).deletion_oldest == 0


def test_time_to_ready_is_reported_once() -> None:
    object_counts = ObjectCounts()
    assert object_counts.update(unreconciled(), at(0)) is None
    assert object_counts.update(storage("False", "PodPending"), at(2)) is None
    assert object_counts.update(storage(), at(3)) == timedelta(seconds=3)
    assert object_counts.update(storage("False", "CrashLoopBackOff"), at(50)) is None
    assert object_counts.update(storage(), at(60)) is None


@pytest.mark.parametrize("first", [storage(), storage("False", "PodPending")], ids=["ready", "starting"])
def test_time_to_ready_of_older_objects_is_not_reported(first: dict[str, Any]) -> None:
    object_counts = ObjectCounts()
    assert object_counts.update(first, at(5)) is None
    assert object_counts.update(storage(), at(6)) is None


def test_suspension_does_not_count_as_start() -> None:
    object_counts = ObjectCounts()
    object_counts.update(unreconciled(replicas=0), at(0))
    object_counts.update(storage("False", "Suspended", "Suspended", replicas=0), at(1))
    assert object_counts.update(storage(), at(1000)) is None


def test_recreated_object_is_timed_again() -> None:
    object_counts = ObjectCounts()
    object_counts.update(unreconciled(), at(0))
    object_counts.remove(ALICE)
    object_counts.update(unreconciled(uid="2"), at(10))
    assert object_counts.update(storage(uid="2"), at(12)) == timedelta(seconds=12)


def test_running_users_of_terminating_claims_are_counted() -> None:
    def on_terminating_claim(name: str, replicas: int, **meta: str) -> dict[str, Any]:
        raw = storage(name=name)
        condition = {"type": "StorageReady", "status": "False", "reason": "ClaimTerminating", "lastTransitionTime": NEVER}
        raw["status"] |= {"conditions": [*raw["status"]["conditions"], condition], "replicas": replicas}
        raw["metadata"] |= meta
        return raw

    object_counts = ObjectCounts()
    object_counts.update(on_terminating_claim("alice", 1), BORN)
    object_counts.update(on_terminating_claim("bob", 0), BORN)  # suspended
    object_counts.update(on_terminating_claim("carol", 1, deletionTimestamp=format_time(BORN)), BORN)
    assert object_counts.counts(BORN).claims_terminating_in_use == 1
    object_counts.remove(ALICE)
    assert object_counts.counts(BORN).claims_terminating_in_use == 0
