"""Which UserStorages are reconciled first: those that one more write ends, then new ones, then those that are only checked again."""

from typing import Any

import pytest

from support.builders import bound_claim, class_object, desired_of, ready_pod, storage_object, stored
from support.caches import put_list
from userstorage_operator.api import reasons
from userstorage_operator.api.names import ANNOTATION_DEFAULT_CLASS
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.reconcile.priority import BATCH_DELAY, turn
from userstorage_operator.runtime.fair_queue import DEFAULT_PRIORITY, HIGH_PRIORITY, LOW_PRIORITY

ALICE = Key("users", "alice")
DELETED: dict[str, Any] = {"deletionTimestamp": "2026-01-31T11:59:30Z"}


def reported(raw: Unstructured, **conditions: str) -> Unstructured:
    """Return the object with a status that a reconcile has written, and the conditions of these types."""
    found = [{"type": kind, "status": status} for kind, status in conditions.items()]
    return raw | {"status": {"observedGeneration": raw["metadata"]["generation"], "replicas": 1, "conditions": found}}


def priorities(raw: Unstructured | None, pod: Unstructured | None = None, claim: Unstructured | None = None) -> tuple[int, int]:
    """Return the priority after an event, and that of a resync."""
    caches = caches_with(raw, pod, claim)
    return turn(ALICE, caches, resync=False).priority, turn(ALICE, caches, resync=True).priority


def caches_with(raw: Unstructured | None, pod: Unstructured | None, claim: Unstructured | None) -> Caches:
    caches = Caches(lambda _: None, lambda _: None)
    for resource, obj in ((USER_STORAGES, raw), (Kind.POD.resource, pod), (Kind.PVC.resource, claim)):
        put_list(caches.cache(resource), [obj] if obj is not None else [], "200")
    return caches


NEW = storage_object()
READY = reported(NEW, **{reasons.READY: "True", reasons.STORAGE_READY: "True"})
STARTING = reported(NEW, **{reasons.READY: "False", reasons.STORAGE_READY: "True"})
WAITING = reported(NEW, **{reasons.READY: "False", reasons.STORAGE_READY: "False"})
SUSPENDED = reported(storage_object(replicas=0), **{reasons.READY: "False"})
POD, CLAIM = ready_pod(desired_of(NEW).pod), bound_claim(desired_of(NEW).pvc or {})
STARTING_POD, UNBOUND = stored(desired_of(NEW).pod), stored(desired_of(NEW).pvc or {})
PENDING = UNBOUND | {"status": {"phase": "Pending"}}
OWNED = CLAIM | {"metadata": CLAIM["metadata"] | {"ownerReferences": [{"uid": NEW["metadata"]["uid"]}]}}
ENDING_POD = POD | {"metadata": POD["metadata"] | DELETED}


@pytest.mark.parametrize(
    ("raw", "pod", "claim"),
    [
        pytest.param(NEW, POD, CLAIM, id="pod is ready before any report"),
        pytest.param(NEW, POD, PENDING, id="pod is ready, and its claim is not seen as bound yet"),
        pytest.param(STARTING, POD, CLAIM, id="pod has become ready"),
        pytest.param(WAITING, None, CLAIM, id="claim that the pod waits for has become bound"),
        pytest.param(storage_object(meta=DELETED), None, CLAIM, id="deletion whose pod is gone"),
        pytest.param(SUSPENDED, None, CLAIM, id="suspension whose pod is gone"),
        pytest.param(None, None, CLAIM, id="gone"),
    ],
)
def test_nearly_done_has_high_priority(raw: Unstructured, pod: Unstructured | None, claim: Unstructured | None) -> None:
    assert priorities(raw, pod, claim) == (HIGH_PRIORITY, HIGH_PRIORITY)


@pytest.mark.parametrize(
    ("raw", "pod", "claim"),
    [
        pytest.param(NEW, None, None, id="new"),
        pytest.param(NEW, None, CLAIM, id="new on a claim that exists, as after a restore"),
        pytest.param(NEW, STARTING_POD, UNBOUND, id="starting, before any report"),
        pytest.param(STARTING | {"metadata": NEW["metadata"] | {"generation": 4}}, STARTING_POD, CLAIM, id="changed spec"),
        pytest.param(storage_object(meta=DELETED), POD, CLAIM, id="deletion with a pod"),
        pytest.param(reported(storage_object(meta=DELETED)), ENDING_POD, CLAIM, id="deletion with a pod that terminates"),
    ],
)
def test_new_and_changed_have_default_priority(raw: Unstructured, pod: Unstructured | None, claim: Unstructured | None) -> None:
    assert priorities(raw, pod, claim) == (DEFAULT_PRIORITY, DEFAULT_PRIORITY)


@pytest.mark.parametrize(
    ("raw", "pod", "claim"),
    [
        pytest.param(READY, POD, CLAIM, id="ready"),
        pytest.param(STARTING, STARTING_POD, CLAIM, id="pod is not ready"),
        pytest.param(STARTING, ENDING_POD, CLAIM, id="pod that is ready terminates"),
        pytest.param(WAITING, None, UNBOUND, id="claim is not bound"),
        pytest.param(SUSPENDED, POD, CLAIM, id="suspended with a pod"),
    ],
)
def test_resync_of_what_is_reported_has_low_priority(
    raw: Unstructured, pod: Unstructured | None, claim: Unstructured | None
) -> None:
    assert priorities(raw, pod, claim) == (DEFAULT_PRIORITY, LOW_PRIORITY)


def delays(raw: Unstructured, pod: Unstructured | None, claim: Unstructured | None) -> tuple[float, float]:
    """Return the delay after an event, and that of a resync."""
    caches = caches_with(raw, pod, claim)
    return turn(ALICE, caches, resync=False).delay, turn(ALICE, caches, resync=True).delay


@pytest.mark.parametrize("claim", [CLAIM, None], ids=["claim without an owner", "no claim"])
def test_events_of_a_pod_that_terminates_for_a_deletion_cause_one_reconcile(claim: Unstructured | None) -> None:
    assert delays(storage_object(meta=DELETED), ENDING_POD, claim) == (BATCH_DELAY, 0)


@pytest.mark.parametrize(
    ("raw", "pod", "claim"),
    [
        pytest.param(NEW, None, None, id="new"),
        pytest.param(NEW, STARTING_POD, UNBOUND, id="first start"),
        pytest.param(NEW, ENDING_POD, CLAIM, id="first pod is deleted"),
        pytest.param(READY, POD, CLAIM, id="drift"),
        pytest.param(storage_object(meta=DELETED), POD, CLAIM, id="deletion begins"),
        pytest.param(storage_object(meta=DELETED), ENDING_POD, OWNED, id="claim that the garbage collector may delete"),
        pytest.param(storage_object(meta=DELETED), None, CLAIM, id="pod of a deletion is gone"),
    ],
)
def test_what_has_something_to_write_is_not_delayed(
    raw: Unstructured, pod: Unstructured | None, claim: Unstructured | None
) -> None:
    assert delays(raw, pod, claim) == (0, 0)


def test_change_of_a_class_resyncs_its_users_and_enqueues_none() -> None:
    enqueued: list[Key] = []
    resynced: list[Key] = []
    caches = Caches(enqueued.append, lambda _: None, resynced.append)
    put_list(caches.cache(USER_STORAGES), [READY], "200")
    enqueued.clear()
    default = {"annotations": {ANNOTATION_DEFAULT_CLASS: "true"}, "resourceVersion": "201"}
    caches.cache(USER_STORAGE_CLASSES).event("ADDED", class_object(meta=default))
    assert (enqueued, resynced) == ([], [ALICE])
