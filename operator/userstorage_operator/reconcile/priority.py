"""When a UserStorage is reconciled after an event: nearly done before new, and new before what is only checked again.

In a burst, the first users are then served when their own pods are ready, not when the pods of all are created. The events of
a pod that terminates for a deletion come several in a second, and cause one reconcile.
"""

from typing import NamedTuple

from userstorage_operator.api import reasons
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.user_id import child_of, own_child
from userstorage_operator.observed.pod_status import is_ready
from userstorage_operator.observed.snapshot import is_terminating
from userstorage_operator.runtime.fair_queue import DEFAULT_PRIORITY, HIGH_PRIORITY, LOW_PRIORITY

BATCH_DELAY = 1.0
"""Seconds for which a reconcile waits for more events in the middle of a deletion."""


class Turn(NamedTuple):
    """When the work queue serves a key."""

    priority: int
    delay: float = 0.0
    """Seconds until the key is queued, if no event before that queues it at once."""


def turn(key: Key, lister: Lister, *, resync: bool) -> Turn:
    """Return when to reconcile the state that the caches have now. `resync` says that nothing shows a change of the UserStorage
    or its children: the first lists, a sweep, a change that may concern many.

    The status only chooses the moment here; what a reconcile does never depends on it.
    """
    raw = lister.storage(key)
    if raw is None:
        return Turn(HIGH_PRIORITY)
    # Most events are about those that run already, and thousands of them are queued at once: their children are not read for that.
    if not _runs(raw):
        pod, claim = own_child(Kind.POD, raw, lister), child_of(Kind.PVC, raw, lister)
        if _is_nearly_done(raw, pod, claim):
            return Turn(HIGH_PRIORITY)
        if not resync and _waits_for_pod(raw, pod, claim):
            return Turn(DEFAULT_PRIORITY, BATCH_DELAY)
    return Turn(LOW_PRIORITY if resync and _is_reported(raw) else DEFAULT_PRIORITY)


def _is_nearly_done(raw: Unstructured, pod: Unstructured | None, claim: Unstructured | None) -> bool:
    """Whether one more write ends a start, a suspension or a deletion: the rest has happened, or the claim that the pod waits
    for is bound.
    """
    meta, status = raw["metadata"], raw.get("status") or {}
    if "deletionTimestamp" in meta:
        return pod is None
    if raw["spec"].get("replicas") == 0:
        return pod is None and bool(status.get("replicas"))
    if pod is not None:
        return is_ready(pod) and not is_terminating(pod)
    waited = _is_reported(raw) and _reported(status, reasons.STORAGE_READY) == "False"
    return waited and claim is not None and (claim.get("status") or {}).get("phase") == "Bound"


def _waits_for_pod(raw: Unstructured, pod: Unstructured | None, claim: Unstructured | None) -> bool:
    """Whether a deletion has nothing to write before its pod is gone, but a progress that waits longer than BATCH_DELAY.

    A claim that the UserStorage owns is another matter: if it is retained, its owner has to go before the garbage collector looks.
    """
    meta = raw["metadata"]
    if "deletionTimestamp" not in meta or pod is None or not is_terminating(pod):
        return False
    return claim is None or all(owner["uid"] != meta["uid"] for owner in claim["metadata"].get("ownerReferences") or ())


def _runs(raw: Unstructured) -> bool:
    """Whether the UserStorage should run, and is reported as ready."""
    should_run = raw["spec"].get("replicas") != 0 and "deletionTimestamp" not in raw["metadata"]
    return should_run and _reported(raw.get("status") or {}, reasons.READY) == "True"


def _is_reported(raw: Unstructured) -> bool:
    """Whether a reconcile has reported about this generation of the spec."""
    observed: object = (raw.get("status") or {}).get("observedGeneration")
    return observed == raw["metadata"]["generation"] and "deletionTimestamp" not in raw["metadata"]


def _reported(status: Unstructured, condition_type: str) -> str | None:
    return next((entry["status"] for entry in status.get("conditions") or () if entry["type"] == condition_type), None)
