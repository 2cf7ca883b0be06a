"""A claim that the spec names is in no watch: what was not looked up is not told as missing."""

import asyncio
from typing import Any

import pytest

from support.builders import NOW, bound_claim, desired_of, ready_pod, storage_object, stored
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import ClusterError, NotFound, Refused, Unavailable
from userstorage_operator.api.names import LABEL_SHAREABLE
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.claim_book import ClaimBook
from userstorage_operator.arbitration.place_book import PlaceBook
from userstorage_operator.informers.caches import Caches
from userstorage_operator.plan.planner import Plan, plan_changes
from userstorage_operator.reconcile.books import Books
from userstorage_operator.reconcile.observe import Observation, observe
from userstorage_operator.reconcile.pod_starts import PodStartBook
from userstorage_operator.reconcile.repairs import RepairBook
from userstorage_operator.status.outcome import Failure, Outcome
from userstorage_operator.status.report import report
from userstorage_operator.status.storage_ready import storage_ready

SHARED: Unstructured = {"metadata": {"name": "shared", "labels": {LABEL_SHAREABLE: "true"}}, "spec": {}}
DELETED = {"deletionTimestamp": "2026-01-31T11:59:50Z"}


EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
TAINTED = {"type": "DisruptionTarget", "status": "True", "message": "Taint manager: deleting due to NoExecute taint"}


class Answering:
    """An API server that is asked for the claim alone."""

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

    list_all = create = merge_patch = json_patch = delete = unasked


def alice(meta: Unstructured | None = None) -> Unstructured:
    return storage_object(storage={"claimName": "shared"}, meta=meta)


def seen_by(cluster: Answering, raw: Unstructured, *others: Unstructured, served: bool = False) -> Observation:
    """A claim that the user had of her own is still there; she may be served from the one that her spec names."""
    views = Caches(lambda _: None, lambda _: None)
    for obj in (raw, *others):
        views.cache(USER_STORAGES).event("ADDED", obj)
    left_over = desired_of(storage_object()).pvc
    assert left_over is not None
    views.put(Kind.PVC.resource, bound_claim(left_over))
    if served:
        wanted = desired_of(raw)
        views.put(Kind.POD.resource, ready_pod(wanted.pod))
        for kind in (Kind.SERVICE, Kind.NETWORK_POLICY):
            views.put(kind.resource, stored(getattr(wanted, kind.field)))
    books = Books(PodStartBook(lambda: NOW), RepairBook(lambda: NOW), ClaimBook(views), PlaceBook(), None)
    seen = asyncio.run(observe(Key.of(raw), views, cluster, books))
    assert seen is not None
    return seen


def verdict_of(seen: Observation) -> Outcome:
    failure = Failure(seen.spec_error, 1, None) if seen.spec_error is not None else None
    return Outcome(seen.snapshot, None, Plan(), failure, NOW)


def told(seen: Observation) -> Condition:
    return storage_ready(verdict_of(seen))


@pytest.mark.parametrize("meta", [{}, DELETED], ids=["living", "being deleted"])
def test_it_is_told_as_it_is(meta: Unstructured) -> None:
    claim = SHARED | {"spec": {"resources": {"requests": {"storage": "3Gi"}}}, "status": {"phase": "Bound"}}
    cluster = Answering(claim)
    seen = seen_by(cluster, alice(meta))
    assert (told(seen).reason, told(seen).message) == ("ClaimBound", "claim 'shared' is bound")
    assert report(verdict_of(seen), {})["storage"] == {"claimName": "shared", "claimPhase": "Bound", "requested": "3Gi"}
    assert cluster.asked == [(Kind.PVC.resource, "shared")]


@pytest.mark.parametrize("meta", [{}, DELETED], ids=["living", "being deleted"])
def test_where_there_is_none_that_is_said(meta: Unstructured) -> None:
    seen = seen_by(Answering(NotFound(404, "persistentvolumeclaims not found")), alice(meta))
    assert told(seen) == Condition(
        "StorageReady", False, "ClaimNotFound", "spec.storage.claimName: claim 'shared' does not exist"
    )


@pytest.mark.parametrize("meta", [{}, DELETED], ids=["living", "being deleted"])
@pytest.mark.parametrize("error", [Unavailable(429, "slow down"), Unavailable(500, "oops"), Refused(403, "not for you")])
def test_where_it_cannot_be_had_that_is_said_and_nothing_of_another_claim(error: ClusterError, meta: Unstructured) -> None:
    seen = seen_by(Answering(error), alice(meta))
    assert told(seen).message == f"spec.storage.claimName: claim 'shared' was not read: {error.message}"
    assert report(verdict_of(seen), {})["storage"] == {"claimName": "shared"}


def test_a_read_that_fails_degrades_nobody_whose_pod_is_ready() -> None:
    seen = seen_by(Answering(Unavailable(500, "oops")), alice(), served=True)
    status = report(verdict_of(seen), {})
    assert (status["phase"], told(seen).status, told(seen).reason) == ("Ready", True, "ClaimBound")
    assert "was not read: oops" in told(seen).message
    assert status["lastError"]["message"] == "oops"


def test_who_comes_second_with_a_user_asks_for_no_claim_and_says_so() -> None:
    first = storage_object(meta={"name": "first", "uid": "uid-first", "creationTimestamp": "2026-01-01T00:00:00Z"})
    cluster = Answering(SHARED)
    assert "claim 'shared' was not read: spec.userID" in told(seen_by(cluster, alice(), first)).message
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("meta", "status", "words"),
    [
        ({}, EVICTED, "it has ended (Failed: Evicted: The node was low on resource: memory.)"),
        ({}, {"phase": "Succeeded"}, "it has ended (Succeeded: no reason given)"),
        (DELETED, {"conditions": [TAINTED]}, "it was ended by others (Taint manager: deleting due to NoExecute taint)"),
    ],
    ids=["evicted", "ended", "of a node that is lost"],
)
def test_who_waits_for_a_pause_is_told_how_the_pod_was_lost(meta: Unstructured, status: Unstructured, words: str) -> None:
    raw, views = storage_object(), Caches(lambda _: None, lambda _: None)
    views.put(USER_STORAGES, raw)
    books = Books(PodStartBook(lambda: NOW), RepairBook(lambda: NOW), ClaimBook(views), PlaceBook(), None)

    def message() -> str:
        seen = asyncio.run(observe(Key.of(raw), views, Answering(NotFound(404, "")), books))
        assert seen is not None
        outcome = Outcome(seen.snapshot, desired_of(raw), plan_changes(seen.snapshot, desired_of(raw), NOW), None, NOW)
        return next(str(entry["message"]) for entry in report(outcome, {})["conditions"] if entry["type"] == "Ready")

    books.starts.made(Key.of(raw))
    pod = stored(desired_of(raw).pod, **meta) | {"status": status}
    views.put(Kind.POD.resource, pod)
    message()
    views.discard(Kind.POD.resource, "users", "user-storage-alice", pod["metadata"]["uid"])
    assert message() == (
        f"the pod was lost because {words} (start 1 in quick succession); the next one is created after a pause"
    )
    books.starts.made(Key.of(raw))  # and whoever ended that one was not seen
    assert message() == "the pod was lost (start 2 in quick succession); the next one is created after a pause"


def test_a_deletion_needs_nobodys_consent() -> None:
    """Who waits for the finalizers of others is not stalled for a claim that may not be shared."""
    meta = DELETED | {"finalizers": ["example.com/backup"]}
    claim = {"metadata": {"name": "shared"}, "spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    conditions = report(verdict_of(seen_by(Answering(claim), alice(meta))), {})["conditions"]
    reasons = {entry["type"]: entry["reason"] for entry in conditions}
    assert (reasons["Stalled"], reasons["Reconciling"]) == ("NotStalled", "WaitingForFinalizers")
