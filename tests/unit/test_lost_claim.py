"""A claim that is gone: known from the status, reported until it is accepted, and never lost by a plan of the operator."""

from dataclasses import replace
from typing import Any

import pytest

from support.builders import (
    NOW,
    bound_claim,
    class_object,
    desired_of,
    ready_pod,
    settled_snapshot,
    snapshot_of,
    storage_object,
)
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import Unavailable
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass
from userstorage_operator.observed.lost_claim import ClaimIdentity, lost_claim
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan, plan_deletion
from userstorage_operator.plan.pod_builder import BUILT_FROM
from userstorage_operator.plan.steps import Create, DeletePod, InspectClaim, Patch, Plan
from userstorage_operator.status.conditions import conditions
from userstorage_operator.status.outcome import Failure, Outcome
from userstorage_operator.status.report import report

WAITING = UserStorageClass.parse(class_object(storage={"onClaimLoss": "Wait"}))
TERMINATING = {"deletionTimestamp": "2026-01-31T11:59:50Z"}
FIRST, SECOND = ClaimIdentity("uid-1", "pv-1"), ClaimIdentity("uid-2", "pv-2")


def claim(identity: ClaimIdentity, **meta: Any) -> Unstructured:
    """Return alice's claim with that UID, bound to that volume if it has one."""
    bound = bound_claim(desired_of(storage_object()).pvc or {}, uid=identity.uid, **meta)
    return bound | {"spec": bound["spec"] | ({"volumeName": identity.volume} if identity.volume else {})}


def world(
    present: Unstructured | None, status: Unstructured, cls: UserStorageClass = BUILT_IN, accepted: str | None = None
) -> Snapshot:
    raw = storage_object(storage={"acceptedClaimLoss": accepted} if accepted else {})
    snapshot = replace(settled_snapshot(raw, cls), status={"storage": status})
    return snapshot.with_children(replace(snapshot.children, pvc=present))


def known(identity: ClaimIdentity, lost: ClaimIdentity | None = None) -> Unstructured:
    """Return `status.storage`."""
    status: Unstructured = {"claimName": "user-storage-alice", "claimUID": identity.uid, "volumeName": identity.volume}
    return status | ({"lostClaim": {"uid": lost.uid, "volumeName": lost.volume}} if lost else {})


def outcome_of(snapshot: Snapshot, failure: Failure | None = None) -> Outcome:
    planned = plan(snapshot, NOW)
    return Outcome(snapshot, planned.desired, planned, failure, NOW)


def condition(snapshot: Snapshot, condition_type: str) -> Condition:
    return next(entry for entry in conditions(outcome_of(snapshot)) if entry.type == condition_type)


@pytest.mark.parametrize(
    ("present", "status", "accepted", "lost"),
    [
        (claim(FIRST), {}, None, None),
        (claim(FIRST), known(FIRST), None, None),
        (claim(SECOND), {}, None, None),  # the status was lost
        (claim(SECOND), known(FIRST), None, FIRST),
        (claim(ClaimIdentity("uid-2", "")), known(FIRST), None, FIRST),
        (claim(ClaimIdentity("uid-2", "pv-1")), known(FIRST), None, None),  # another claim on the same volume
        (claim(SECOND), known(FIRST), "uid-1", None),
        (claim(SECOND), known(FIRST), "uid-2", FIRST),
        (claim(SECOND), known(SECOND, lost=FIRST), None, FIRST),
        (claim(SECOND), known(SECOND, lost=FIRST), "uid-1", None),
        (claim(FIRST), known(SECOND, lost=FIRST), None, SECOND),
        (claim(ClaimIdentity("uid-3", "pv-3")), known(SECOND, lost=FIRST), None, FIRST),
        (claim(ClaimIdentity("uid-3", "pv-3")), known(SECOND, lost=FIRST), "uid-1", SECOND),
        (None, known(FIRST), None, FIRST),
        (None, known(FIRST), "uid-1", None),
        (None, {"claimName": "user-storage-alice", "claimUID": "uid-1"}, None, None),  # it never had a volume
    ],
)
def test_lost_claim(
    present: Unstructured | None, status: Unstructured, accepted: str | None, lost: ClaimIdentity | None
) -> None:
    assert lost_claim(world(present, status, accepted=accepted)) == lost


def test_claim_that_was_not_read_is_not_lost() -> None:
    snapshot = world(None, known(SECOND, lost=FIRST))
    unread = replace(snapshot, claim_context=replace(snapshot.claim_context, claim_read_error="timeout"))
    assert lost_claim(unread) is None
    failure = Failure.of(Unavailable(0, "timeout"), 1, NOW)
    assert report(outcome_of(unread, failure), unread.status)["storage"] == known(SECOND, lost=FIRST)


def test_dying_claim_of_a_previous_user_storage_is_not_recorded() -> None:
    owner = {"uid": "gone", "controller": True, "kind": "UserStorage", "apiVersion": "userstorage.dev/v1", "name": "alice"}
    dying = claim(FIRST, ownerReferences=[owner], **TERMINATING)
    served = world(dying, {})
    unserved = served.with_children(replace(served.children, pod=None))
    assert "claimUID" not in report(outcome_of(unserved), {})["storage"]
    assert report(outcome_of(served), {})["storage"]["claimUID"] == "uid-1"  # the operator was upgraded meanwhile
    known_before = report(outcome_of(unserved), {"storage": known(SECOND)})["storage"]
    assert (known_before["claimUID"], known_before["volumeName"]) == ("uid-2", "pv-2")


def test_deleted_user_has_lost_nothing() -> None:
    deleted = UserStorage.parse(storage_object(meta={"deletionTimestamp": "2026-01-31T11:59:50Z"}))
    assert lost_claim(replace(world(None, known(FIRST)), storage=deleted)) is None


def test_status_keeps_the_lost_claim_until_it_is_accepted() -> None:
    status: Unstructured = {"storage": {}}
    seen = []
    for present, accepted in (
        (claim(FIRST), None),
        (claim(SECOND), None),
        (claim(SECOND), None),
        (claim(SECOND), "uid-1"),
        (claim(SECOND), "uid-1"),
    ):
        snapshot = world(present, status["storage"], accepted=accepted)
        status = report(outcome_of(snapshot), status)
        reason = next(entry["reason"] for entry in status["conditions"] if entry["type"] == "StorageReady")
        seen.append((status["phase"], reason, status["storage"]["claimUID"], "lostClaim" in status["storage"]))
    assert seen == [
        ("Ready", "ClaimBound", "uid-1", False),
        ("Degraded", "ClaimReplaced", "uid-2", True),
        ("Degraded", "ClaimReplaced", "uid-2", True),
        ("Ready", "ClaimBound", "uid-2", False),
        ("Ready", "ClaimBound", "uid-2", False),
    ]


@pytest.mark.parametrize(
    ("cls", "status", "accepted", "step"),
    [
        (BUILT_IN, known(FIRST), None, Create),
        (WAITING, known(FIRST), None, InspectClaim),
        (WAITING, known(FIRST), "uid-1", Create),
        (WAITING, {}, None, Create),
    ],
)
def test_new_claim_waits_for_consent_if_the_class_asks_for_it(
    cls: UserStorageClass, status: Unstructured, accepted: str | None, step: type
) -> None:
    snapshot = world(None, status, cls, accepted)
    planned = plan(snapshot.with_children(replace(snapshot.children, pod=None)), NOW)
    assert isinstance(planned.steps[0], step)
    waits = step is InspectClaim
    assert (planned.hold, planned.creates_pod) == (("StorageNotReady", False) if waits else (None, True))


@pytest.mark.parametrize("has_pod", [True, False])
def test_no_pod_is_started_on_a_claim_that_another_client_created(has_pod: bool) -> None:
    snapshot = world(claim(SECOND), known(FIRST), WAITING)
    snapshot = outdated(snapshot) if has_pod else snapshot.with_children(replace(snapshot.children, pod=None))
    planned = plan(snapshot, NOW)
    assert not planned.creates_pod
    assert planned.pod_deletion is None
    assert planned.hold == (None if has_pod else "StorageNotReady")
    assert condition(snapshot, "StorageReady").reason == "ClaimReplaced"
    assert condition(snapshot, "Stalled").reason == "ClaimReplaced"
    accepted = replace(snapshot, storage=UserStorage.parse(storage_object(storage={"acceptedClaimLoss": "uid-1"})))
    assert plan(accepted, NOW).creates_pod != has_pod
    recreating = replace(snapshot, cls=BUILT_IN)
    assert plan(recreating, NOW).creates_pod != has_pod


def test_second_loss_is_remembered_until_the_first_one_is_accepted() -> None:
    third = ClaimIdentity("uid-3", "pv-3")
    snapshot = world(claim(third), known(SECOND, lost=FIRST))
    status = report(outcome_of(snapshot), snapshot.status)["storage"]
    assert (status["claimUID"], status["lostClaim"]) == ("uid-2", {"uid": "uid-1", "volumeName": "pv-1"})
    accepted = world(claim(third), status, accepted="uid-1")
    assert lost_claim(accepted) == SECOND
    status = report(outcome_of(accepted), accepted.status)["storage"]
    assert (status["claimUID"], status["lostClaim"]) == ("uid-3", {"uid": "uid-2", "volumeName": "pv-2"})
    status = report(outcome_of(world(claim(third), status, accepted="uid-2")), {"storage": status})["storage"]
    assert "lostClaim" not in status


def outdated(snapshot: Snapshot) -> Snapshot:
    pod = ready_pod(desired_of(storage_object()).pod)
    hashed = pod["metadata"]["annotations"] | {"userstorage.dev/pod-hash": "older"}
    return with_pod(snapshot, pod | {"metadata": pod["metadata"] | {"annotations": hashed}})


def with_pod(snapshot: Snapshot, pod: Unstructured) -> Snapshot:
    return snapshot.with_children(replace(snapshot.children, pod=pod))


def failed(snapshot: Snapshot) -> Snapshot:
    return with_pod(snapshot, ready_pod(desired_of(storage_object()).pod) | {"status": {"phase": "Failed"}})


def without_hash(snapshot: Snapshot) -> Snapshot:
    return with_pod(snapshot, ready_pod(desired_of(storage_object()).pod, annotations={}))


@pytest.mark.parametrize("damage", [outdated, failed, without_hash])
@pytest.mark.parametrize("may_replace", [True, False])
def test_pod_of_terminating_claim_is_not_replaced(damage: Any, may_replace: bool) -> None:
    healthy = replace(damage(world(claim(FIRST), known(FIRST))), may_replace=True)
    [deletion] = [step for step in plan(healthy, NOW).steps if isinstance(step, DeletePod)]
    assert deletion.only_if_claim_stays
    held = replace(damage(world(claim(FIRST, **TERMINATING), known(FIRST))), may_replace=may_replace)
    assert [step for step in plan(held, NOW).steps if not isinstance(step, Patch)] == []
    found = condition(held, "PodUpToDate")
    assert (found.status, found.reason) == (False, "ClaimTerminating")
    assert deletion.reason in found.message
    without_claim = replace(damage(world(None, known(FIRST), WAITING)), may_replace=may_replace)
    assert not plan(without_claim, NOW).pod_deletion


@pytest.mark.parametrize("damage", [outdated, failed, without_hash])
@pytest.mark.parametrize("may_replace", [True, False])
def test_pod_of_a_claim_without_its_volume_is_not_replaced(damage: Any, may_replace: bool) -> None:
    lost = claim(FIRST) | {"status": {"phase": "Lost"}}
    held = replace(damage(world(lost, known(FIRST))), may_replace=may_replace)
    assert plan(held, NOW).pod_deletion is None
    assert condition(held, "PodUpToDate").reason == "ClaimLost"
    assert "Copy the files" in condition(held, "StorageReady").message


def in_use(snapshot: Snapshot) -> Snapshot:
    return replace(snapshot, claim_context=replace(snapshot.claim_context, claim_holder="bob"))


@pytest.mark.parametrize("damage", [lambda snapshot: snapshot, outdated])
def test_holder_of_the_claim_does_not_end_the_last_pod(damage: Any) -> None:
    held = in_use(damage(world(claim(FIRST, **TERMINATING), known(FIRST))))
    assert plan(held, NOW).pod_deletion is None
    assert condition(held, "StorageReady").reason == "ClaimTerminating"
    assert condition(held, "PodUpToDate").reason == "ClaimTerminating"
    assert not condition(held, "Stalled").status
    ended = in_use(damage(world(claim(FIRST), known(FIRST))))
    assert plan(ended, NOW).pod_deletion is not None


@pytest.mark.parametrize("sub_path", ["a", "b"])
def test_holder_of_another_directory_does_not_end_a_deferred_pod(sub_path: str) -> None:
    # The pod mounts directory `a`; the spec asks for `sub_path`, which bob has.
    spec = {"claimName": "user-storage-alice", "subPath": "a"}
    late = {"updateStrategy": "WhenSuspended"}
    pod = ready_pod(desired_of(storage_object(storage=spec)).pod)
    hashed = pod["metadata"]["annotations"] | {"userstorage.dev/pod-hash": "older"}
    pod |= {"metadata": pod["metadata"] | {"annotations": hashed}}
    shared = claim(FIRST, labels={"userstorage.dev/shareable": "Directories"})
    snapshot = in_use(with_pod(world(shared, known(FIRST)), pod))
    snapshot = replace(
        snapshot, storage=UserStorage.parse(storage_object(storage=spec | {"subPath": sub_path}, lifecycle=late))
    )
    kept = sub_path == "b"
    assert (plan(snapshot, NOW).pod_deletion is None) == kept
    found = condition(snapshot, "StorageReady")
    assert found.reason == "ClaimInUse"
    assert ("keeps running" in found.message) == kept
    assert condition(snapshot, "Stalled").status != kept


def test_hash_of_a_kept_pod_is_not_repaired() -> None:
    held = without_hash(world(claim(FIRST, **TERMINATING), known(FIRST)))
    patches = [step.patch["metadata"] for step in plan(held, NOW).steps if isinstance(step, Patch)]
    assert not any(BUILT_FROM & patch.get("annotations", {}).keys() for patch in patches)


@pytest.mark.parametrize("replicas", [0, 1])
def test_wish_of_the_user_ends_the_pod_of_a_terminating_claim(replicas: int) -> None:
    meta = {} if replicas == 0 else TERMINATING
    raw = storage_object(meta=meta, replicas=replicas)
    snapshot = world(claim(FIRST, **TERMINATING), known(FIRST))
    snapshot = replace(snapshot, storage=UserStorage.parse(raw))
    planned = plan_deletion(snapshot) if replicas else plan(snapshot, NOW)
    [deletion] = [step for step in planned.steps if isinstance(step, DeletePod)]
    assert not deletion.only_if_claim_stays


def test_up_to_date_pod_of_terminating_claim_is_up_to_date() -> None:
    snapshot = world(claim(FIRST, **TERMINATING), known(FIRST))
    assert plan(snapshot, NOW) == replace(Plan(), desired=plan(snapshot, NOW).desired)
    assert condition(snapshot, "PodUpToDate").reason == "UpToDate"
    assert condition(snapshot, "Ready").status


def test_named_claim_that_was_replaced_is_reported() -> None:
    raw = storage_object(storage={"claimName": "photos"})
    meta = {"name": "photos", "uid": "uid-2", "labels": {"userstorage.dev/shareable": "true"}}
    size = {"resources": {"requests": {"storage": "1Gi"}}}
    photos = {
        "metadata": meta | {"creationTimestamp": "2026-01-31T11:00:00Z"},
        "spec": {"volumeName": "pv-2", **size},
        "status": {"phase": "Bound"},
    }
    children: dict[str, Any] = {Kind.PVC.field: photos}
    snapshot = replace(snapshot_of(raw, **children), status={"storage": known(FIRST) | {"claimName": "photos"}})
    found = condition(snapshot, "StorageReady")
    assert (found.status, found.reason) == (False, "ClaimReplaced")
    assert "2026-01-31T11:00:00Z" in found.message
