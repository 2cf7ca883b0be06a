"""Counting UserStorages as they change."""

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
    told: bool = True,
    **spec: Any,
) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": ready, "reason": reason, "lastTransitionTime": format_time(at(flipped))},
        {"type": "Suspended", "status": "False", "reason": "Running", "lastTransitionTime": format_time(at(resumed))},
    ]
    meta = {"namespace": "ns", "name": name, "uid": uid, "creationTimestamp": format_time(BORN)}
    status = {"phase": phase, "conditions": conditions} | ({"observedGeneration": 1} if told else {})
    return {"metadata": meta, "spec": {"userID": name, **spec}, "status": status}


def untold(**changes: Any) -> dict[str, Any]:
    """As the schema's default has it."""
    raw = storage("Unknown", "Pending", "Pending", told=False, **changes)
    raw["status"]["conditions"][0]["lastTransitionTime"] = NEVER
    return raw


def deleting(timeout: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"lifecycle": {"deletionTimeout": timeout}} if timeout else {}
    raw = storage("False", "Terminating", "Terminating", **spec)
    raw["metadata"]["deletionTimestamp"] = format_time(at(0))
    return raw


def test_everything_is_there_from_the_start_at_zero() -> None:
    tally = ObjectCounts().counts(BORN)
    assert (tuple(tally.phases), tuple(tally.conditions), tuple(tally.failure_reasons)) == (PHASES, CONDITIONS, FAILURE_REASONS)
    assert {*tally.phases.values(), *tally.conditions.values(), *tally.failure_reasons.values()} == {0}
    assert (tally.not_ready_longest, tally.long_not_ready, tally.deletions, tally.deletion_oldest) == (0, 0, 0, 0)


def test_an_object_counts_as_it_is_now_and_no_longer_when_it_is_gone() -> None:
    census = ObjectCounts()
    census.update(storage("False", "CrashLoopBackOff", "Degraded"), BORN)
    census.update(storage(name="bob", uid="2"), BORN)
    before = census.counts(BORN)
    assert (before.phases["Degraded"], before.phases["Ready"], before.failure_reasons["CrashLoopBackOff"]) == (1, 1, 1)
    assert (before.conditions["Ready", "False"], before.conditions["Ready", "True"]) == (1, 1)
    census.update(storage(), BORN)
    census.remove(Key("ns", "bob"))
    after = census.counts(BORN)
    assert (after.phases["Degraded"], after.phases["Ready"], after.failure_reasons["CrashLoopBackOff"]) == (0, 1, 0)
    census.remove(ALICE)
    assert census.counts(BORN) == ObjectCounts().counts(BORN)


def test_words_of_strangers_make_no_counts() -> None:
    census = ObjectCounts()
    census.update(storage("Perhaps", "alice@example.org", "Confused"), BORN)
    tally = census.counts(BORN)
    assert (tuple(tally.phases), tuple(tally.conditions), tuple(tally.failure_reasons)) == (PHASES, CONDITIONS, FAILURE_REASONS)
    assert tally.phases["Pending"] == 1


def test_the_placeholder_of_the_schema_says_nothing() -> None:
    census = ObjectCounts()
    census.update(untold(), BORN)
    tally = census.counts(at(700))
    assert tally.conditions["Ready", "False"] == 0
    assert (tally.phases["Pending"], tally.not_ready_longest, tally.long_not_ready) == (1, 700, 1)


@pytest.mark.parametrize(
    ("raw", "longest"),
    [
        (storage("False", "PodPending", "Starting", flipped=100), 500),
        (storage("False", "PodPending", "Starting", flipped=100, resumed=580), 20),
        (storage("False", "Suspended", "Suspended", flipped=100, replicas=0), 0),
        (storage(flipped=100), 0),
        (deleting(), 0),
    ],
    ids=["not ready", "resumed", "suspended", "ready", "going"],
)
def test_who_should_be_ready_and_is_not_counts_since_then(raw: dict[str, Any], longest: float) -> None:
    census = ObjectCounts()
    census.update(raw, BORN)
    tally = census.counts(at(600))
    assert tally.not_ready_longest == longest
    assert tally.long_not_ready == 0
    assert census.counts(at(701)).long_not_ready == (1 if longest == 500 else 0)


def test_the_longest_is_that_of_all() -> None:
    census = ObjectCounts()
    for name, since in (("alice", 300), ("bob", 100), ("carol", 200)):
        census.update(storage("False", "PodPending", name=name, uid=name, flipped=since), BORN)
    assert census.counts(at(400)).not_ready_longest == 300
    census.remove(Key("ns", "bob"))
    assert census.counts(at(400)).not_ready_longest == 200


@pytest.mark.parametrize(("timeout", "due"), [(None, 600), ("30s", 30)])
def test_a_deletion_is_overdue_after_its_own_time(timeout: str | None, due: float) -> None:
    census = ObjectCounts()
    census.update(deleting(timeout), BORN)
    assert census.counts(at(due)).deletions_overdue == 0
    tally = census.counts(at(due + 1))
    assert (tally.deletions, tally.deletion_oldest, tally.deletions_overdue) == (1, due + 1, 1)


def test_a_clock_that_is_behind_makes_no_negative_age() -> None:
    census = ObjectCounts()
    census.update(deleting(), BORN)
    assert census.counts(at(-5)).deletion_oldest == 0


def test_the_way_to_ready_is_told_once() -> None:
    census = ObjectCounts()
    assert census.update(untold(), at(0)) is None
    assert census.update(storage("False", "PodPending"), at(2)) is None
    assert census.update(storage(), at(3)) == timedelta(seconds=3)
    assert census.update(storage("False", "CrashLoopBackOff"), at(50)) is None
    assert census.update(storage(), at(60)) is None


@pytest.mark.parametrize("first", [storage(), storage("False", "PodPending")], ids=["ready", "starting"])
def test_it_is_not_told_of_what_was_there_before_this_process(first: dict[str, Any]) -> None:
    census = ObjectCounts()
    assert census.update(first, at(5)) is None
    assert census.update(storage(), at(6)) is None


def test_a_suspension_is_no_part_of_a_start() -> None:
    census = ObjectCounts()
    census.update(untold(replicas=0), at(0))
    census.update(storage("False", "Suspended", "Suspended", replicas=0), at(1))
    assert census.update(storage(), at(1000)) is None


def test_a_namesake_starts_anew() -> None:
    census = ObjectCounts()
    census.update(untold(), at(0))
    census.remove(ALICE)
    census.update(untold(uid="2"), at(10))
    assert census.update(storage(uid="2"), at(12)) == timedelta(seconds=12)
