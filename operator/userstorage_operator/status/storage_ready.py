"""The condition StorageReady: whether the claim has a volume and the pod can use it."""

from userstorage_operator.api import reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import GrowthRefused
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.pvc_resize import Resize, failure, progress
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import pod as plans
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.builders import claim_name
from userstorage_operator.status.outcome import Outcome

NEEDS_MANUAL_ACTION = frozenset({"ClaimNotAllowed", "ClaimInUse"})
"""Reasons of StorageReady that need manual action; the condition Stalled reports them too."""
_FIRST_CONSUMER = "WaitForFirstConsumer"


def storage_ready(outcome: Outcome) -> Condition:
    """Return the condition StorageReady: whether the claim has its volume, or gets it when the existing pod is scheduled."""
    snapshot = outcome.snapshot
    finding = _not_ready_finding(outcome)
    if finding is not None:
        return Condition(reasons.STORAGE_READY, False, finding.reason, finding.message)
    claim, name = snapshot.children.pvc, claim_name(snapshot.storage)
    if claim is None:
        message = f"claim {name!r} is used by a pod that is ready, but was not read: {snapshot.claim_context.claim_read_error}"
        return Condition(reasons.STORAGE_READY, True, "ClaimBound", message)
    if not _has_volume(snapshot, claim):
        message = f"claim {name!r} gets its volume when the pod is scheduled"
        return Condition(reasons.STORAGE_READY, True, _FIRST_CONSUMER, message)
    if progress(claim) is Resize.FAILED:
        message = f"claim {name!r} is bound and in use, but expanding it failed: {failure(claim)}"
        return Condition(reasons.STORAGE_READY, True, "ResizeFailed", message)
    if (refused := _growth_refused(outcome)) is not None:
        message = f"claim {name!r} is bound and in use, but may not be expanded: {refused.message}"
        return Condition(reasons.STORAGE_READY, True, "ResizeFailed", message)
    return Condition(reasons.STORAGE_READY, True, "ClaimBound", f"claim {name!r} is bound")


def keeps_pod_from_starting(outcome: Outcome) -> Finding | None:
    """Return StorageNotReady, for the condition Ready, if the pod cannot mount its volume; None if no such problem is known."""
    problem = volume_affinity.volume_problem(outcome.snapshot)
    return Finding("StorageNotReady", problem.message) if problem is not None else None


def _not_ready_finding(outcome: Outcome) -> Finding | None:
    snapshot, claim = outcome.snapshot, outcome.snapshot.children.pvc
    existing, holder = snapshot.storage.storage.claim_name, snapshot.claim_context.claim_holder
    if claim is None:
        return _missing_claim_finding(snapshot)
    name = claim["metadata"]["name"]
    if existing and not plans.claim_is_shareable(claim):
        message = (
            f"spec.storage.claimName: claim {name!r} lacks the label userstorage.dev/shareable=true; its owner must set it"
        )
        return Finding("ClaimNotAllowed", message)
    if holder is not None:
        field = "spec.storage.claimName: " if existing else ""
        message = f"{field}claim {name!r} is in use by UserStorage {holder!r}; a claim can serve only one UserStorage at a time"
        return Finding("ClaimInUse", message)
    if plans.claim_is_disappearing(snapshot):
        return Finding("ClaimTerminating", f"claim {name!r} is being deleted; no pod is started on it")
    if claim.get("status", {}).get("phase") == "Lost":
        return Finding("ClaimLost", f"the volume of claim {name!r} no longer exists")
    if problem := volume_affinity.volume_problem(snapshot):
        return problem
    if (refused := _growth_refused(outcome)) is not None and refused.reason == "ExpansionNotSupported":
        return Finding("ExpansionNotSupported", f"claim {name!r} cannot be expanded: {refused.message}")
    return None if _has_volume(snapshot, claim) else _pending(snapshot, claim)


def _missing_claim_finding(snapshot: Snapshot) -> Finding | None:
    """Return ClaimNotFound if the claim is missing or was not read; None if a ready pod proves that the unread claim exists."""
    existing, read_error = snapshot.storage.storage.claim_name, snapshot.claim_context.claim_read_error
    if existing is None:
        return Finding("ClaimNotFound", "the claim has not been created yet")
    if read_error is None:
        return Finding("ClaimNotFound", f"spec.storage.claimName: claim {existing!r} does not exist")
    if _is_used_by_ready_pod(snapshot):
        return None
    return Finding("ClaimNotFound", f"spec.storage.claimName: claim {existing!r} was not read: {read_error}")


def _growth_refused(outcome: Outcome) -> GrowthRefused | None:
    error = outcome.failure.error if outcome.failure is not None else None
    return error if isinstance(error, GrowthRefused) else None


def _has_volume(snapshot: Snapshot, claim: Unstructured) -> bool:
    """Whether the claim is bound, or a ready pod mounts it: the watch of claims may be behind the watch of pods."""
    return claim.get("status", {}).get("phase") == "Bound" or _is_used_by_ready_pod(snapshot)


def _is_used_by_ready_pod(snapshot: Snapshot) -> bool:
    return snapshot.own_pod is not None and pod_status.is_ready(snapshot.own_pod)


def _pending(snapshot: Snapshot, claim: Unstructured) -> Finding | None:
    """Return why the claim has no volume; None if the existing pod only has to be scheduled.

    Only the StorageClass in the claim matters: the API server has written the default one into it.
    """
    name, class_name = claim["metadata"]["name"], claim["spec"].get("storageClassName")
    modes = snapshot.claim_context.binding_modes
    if class_name is None:
        return Finding(
            "ClaimPending", f"claim {name!r} waits for a volume: it names no StorageClass and there was no default one"
        )
    if class_name and class_name not in modes:
        return Finding("ClaimPending", f"claim {name!r} waits for a volume: StorageClass {class_name!r} does not exist")
    if modes.get(class_name) != _FIRST_CONSUMER:
        return Finding("ClaimPending", f"claim {name!r} waits for a volume")
    if snapshot.own_pod is not None:
        return None
    return Finding("ClaimPending", f"claim {name!r} is not bound: it gets its volume when its first pod is scheduled")
