"""Observing a claim that the spec names. No watch has it, so it is read by request; an unread claim is not reported as missing."""

import asyncio
from typing import Any

import pytest

from support.builders import NOW, bound_claim, class_object, desired_of, ready_pod, storage_object, stored
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import ClusterError, InvalidSpec, NotFound, Refused, Unavailable
from userstorage_operator.api.names import ANNOTATION_DEFAULT_CLASS, LABEL_SHAREABLE
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan_changes
from userstorage_operator.plan.steps import Plan
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.observe import observe
from userstorage_operator.status.outcome import Failure, Outcome
from userstorage_operator.status.report import report
from userstorage_operator.status.storage_ready import storage_ready

SHARED: Unstructured = {"metadata": {"name": "shared", "uid": "uid-shared", "labels": {LABEL_SHAREABLE: "true"}}, "spec": {}}
DELETED = {"deletionTimestamp": "2026-01-31T11:59:50Z"}


EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
TAINTED = {"type": "DisruptionTarget", "status": "True", "message": "Taint manager: deleting due to NoExecute taint"}


class ClaimServer:
    """An API server that serves only the claim, or fails with the error given as its answer."""

    def __init__(self, answer: Unstructured | ClusterError) -> None:
        self.answer = answer
        self.asked: list[tuple[Resource, str]] = []

    async def get(self, resource: Resource, _: str | None, name: str) -> Unstructured:
        self.asked.append((resource, name))
        if isinstance(self.answer, ClusterError):
            raise self.answer
        return self.answer

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    list_all = create = merge_patch = json_patch = delete = unasked


def alice(meta: Unstructured | None = None) -> Unstructured:
    return storage_object(storage={"claimName": "shared"}, meta=meta)


def observe_claim(cluster: ClaimServer, raw: Unstructured, *others: Unstructured, served: bool = False) -> Snapshot:
    """Observe alice, whose former own claim still exists; if `served`, her pod runs on the claim that her spec names."""
    caches = Caches(lambda _: None, lambda _: None)
    for obj in (raw, *others):
        caches.cache(USER_STORAGES).event("ADDED", obj)
    left_over = desired_of(storage_object()).pvc
    assert left_over is not None
    caches.put(Kind.PVC.resource, bound_claim(left_over))
    if served:
        wanted = desired_of(raw)
        caches.put(Kind.POD.resource, ready_pod(wanted.pod))
        for kind in (Kind.SERVICE, Kind.NETWORK_POLICY):
            caches.put(kind.resource, stored(getattr(wanted, kind.field)))
    state = LocalState.new(lambda: NOW, caches)
    seen = asyncio.run(observe(Key.of(raw), caches, cluster, state))
    assert seen is not None
    return seen


def outcome_of(seen: Snapshot) -> Outcome:
    failure = Failure(seen.spec_error, 1, None) if seen.spec_error is not None else None
    return Outcome(seen, None, Plan(), failure, NOW)


def storage_condition(seen: Snapshot) -> Condition:
    return storage_ready(outcome_of(seen))


@pytest.mark.parametrize("meta", [{}, DELETED], ids=["living", "being deleted"])
def test_named_claim_is_reported_with_its_phase_and_size(meta: Unstructured) -> None:
    claim = SHARED | {"spec": {"resources": {"requests": {"storage": "3Gi"}}}, "status": {"phase": "Bound"}}
    cluster = ClaimServer(claim)
    seen = observe_claim(cluster, alice(meta))
    assert (storage_condition(seen).reason, storage_condition(seen).message) == ("ClaimBound", "claim 'shared' is bound")
    assert report(outcome_of(seen), {})["storage"] == {
        "claimName": "shared",
        "claimUID": "uid-shared",
        "claimPhase": "Bound",
        "requested": "3Gi",
    }
    assert cluster.asked == [(Kind.PVC.resource, "shared")]


@pytest.mark.parametrize("meta", [{}, DELETED], ids=["living", "being deleted"])
def test_missing_named_claim_is_reported(meta: Unstructured) -> None:
    seen = observe_claim(ClaimServer(NotFound(404, "persistentvolumeclaims not found")), alice(meta))
    assert storage_condition(seen) == Condition(
        "StorageReady", False, "ClaimNotFound", "spec.storage.claimName: claim 'shared' does not exist"
    )


@pytest.mark.parametrize("meta", [{}, DELETED], ids=["living", "being deleted"])
@pytest.mark.parametrize("error", [Unavailable(429, "slow down"), Unavailable(500, "oops"), Refused(403, "not for you")])
def test_unreadable_claim_is_reported_without_data_of_another_claim(error: ClusterError, meta: Unstructured) -> None:
    seen = observe_claim(ClaimServer(error), alice(meta))
    assert storage_condition(seen).message == f"spec.storage.claimName: claim 'shared' was not read: {error.message}"
    assert report(outcome_of(seen), {})["storage"] == {"claimName": "shared"}


def test_failed_claim_read_does_not_degrade_ready_user() -> None:
    seen = observe_claim(ClaimServer(Unavailable(500, "oops")), alice(), served=True)
    status = report(outcome_of(seen), {})
    assert (status["phase"], storage_condition(seen).status, storage_condition(seen).reason) == ("Ready", True, "ClaimBound")
    assert "was not read: oops" in storage_condition(seen).message
    assert status["lastError"]["message"] == "oops"


def test_claim_is_not_read_while_the_user_id_conflicts() -> None:
    first = storage_object(meta={"name": "first", "uid": "uid-first", "creationTimestamp": "2026-01-01T00:00:00Z"})
    cluster = ClaimServer(SHARED)
    assert "claim 'shared' was not read: spec.userID" in storage_condition(observe_claim(cluster, alice(), first)).message
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("meta", "status", "words"),
    [
        ({}, EVICTED, "it has terminated (Failed: Evicted: The node was low on resource: memory.)"),
        ({}, {"phase": "Succeeded"}, "it has terminated (Succeeded: no reason given)"),
        (
            DELETED,
            {"conditions": [TAINTED]},
            "another controller terminated it (Taint manager: deleting due to NoExecute taint)",
        ),
    ],
    ids=["evicted", "succeeded", "deleted by taint manager"],
)
def test_pod_backoff_message_names_cause_of_loss(meta: Unstructured, status: Unstructured, words: str) -> None:
    raw, caches = storage_object(), Caches(lambda _: None, lambda _: None)
    caches.put(USER_STORAGES, raw)
    state = LocalState.new(lambda: NOW, caches)

    def message() -> str:
        seen = asyncio.run(observe(Key.of(raw), caches, ClaimServer(NotFound(404, "")), state))
        assert seen is not None
        outcome = Outcome(seen, desired_of(raw), plan_changes(seen, desired_of(raw), NOW), None, NOW)
        return next(str(entry["message"]) for entry in report(outcome, {})["conditions"] if entry["type"] == "Ready")

    state.pods.record_try(Key.of(raw))
    pod = stored(desired_of(raw).pod, **meta) | {"status": status}
    caches.put(Kind.POD.resource, pod)
    message()
    caches.discard(Kind.POD.resource, "users", "user-storage-alice", pod["metadata"]["uid"])
    assert message() == (
        f"the pod was lost because {words} (start 1 in quick succession); the next one is created after a pause"
    )
    state.pods.record_try(Key.of(raw))  # the cause of this pod's loss was not observed
    assert message() == "the pod was lost (start 2 in quick succession); the next one is created after a pause"


def test_deletion_is_not_stalled_by_unshareable_claim() -> None:
    # A deleted object that waits for foreign finalizers is not Stalled because of a claim that is not shareable.
    meta = DELETED | {"finalizers": ["example.com/backup"]}
    claim = {"metadata": {"name": "shared", "uid": "uid-shared"}, "spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    conditions = report(outcome_of(observe_claim(ClaimServer(claim), alice(meta))), {})["conditions"]
    reasons = {entry["type"]: entry["reason"] for entry in conditions}
    assert (reasons["Stalled"], reasons["Reconciling"]) == ("NotStalled", "WaitingForFinalizers")


def test_recreated_user_storage_does_not_inherit_the_pauses_of_the_former() -> None:
    former, caches = storage_object(), Caches(lambda _: None, lambda _: None)
    key = Key.of(former)
    state = LocalState.new(lambda: NOW, caches)
    caches.put(USER_STORAGES, former)
    asyncio.run(observe(key, caches, ClaimServer(NotFound(404, "")), state))
    for _ in range(4):
        state.pods.record_try(key)
    again = storage_object(meta={"uid": "uid-again", "resourceVersion": "900"})
    caches.cache(USER_STORAGES).event("ADDED", again)
    seen = asyncio.run(observe(key, caches, ClaimServer(NotFound(404, "")), state))
    assert seen is not None
    assert seen.pod_backoff.count == 0


def test_invalid_spec_is_observed_with_its_class_and_not_with_the_default_one() -> None:
    caches = Caches(lambda _: None, lambda _: None)
    default = {"annotations": {ANNOTATION_DEFAULT_CLASS: "true"}, "resourceVersion": "1"}
    caches.cache(USER_STORAGE_CLASSES).event("ADDED", class_object("default", meta=default))
    caches.cache(USER_STORAGE_CLASSES).event("ADDED", class_object("own", meta={"resourceVersion": "2"}))
    raw = storage_object(className="own", storage={"size": 5.5})
    caches.cache(USER_STORAGES).event("ADDED", raw)
    seen = asyncio.run(observe(Key.of(raw), caches, ClaimServer(SHARED), LocalState.new(lambda: NOW, caches)))
    assert seen is not None
    assert seen.cls is not None
    assert (seen.cls.name, seen.storage.user_id) == ("own", "alice")
    assert isinstance(seen.spec_error, InvalidSpec)
