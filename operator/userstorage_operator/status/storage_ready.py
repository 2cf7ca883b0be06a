"""The condition StorageReady: whether the claim has its volume and the pod can have both."""

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
"""Reasons that Stalled repeats."""
_FIRST_CONSUMER = "WaitForFirstConsumer"


def storage_ready(outcome: Outcome) -> Condition:
    """Whether the claim has its volume, or gets it with the pod that is there."""
    snapshot = outcome.snapshot
    finding = _not_ready_finding(outcome)
    if finding is not None:
        return Condition(reasons.STORAGE_READY, False, finding.reason, finding.message)
    claim, name = snapshot.children.pvc, claim_name(snapshot.storage)
    if claim is None:
        message = (
            f"claim {name!r} serves the pod, which is ready; it was not looked up: {snapshot.claim_context.claim_read_error}"
        )
        return Condition(reasons.STORAGE_READY, True, "ClaimBound", message)
    if not _has_volume(snapshot, claim):
        message = f"claim {name!r} gets its volume with the pod that is being placed"
        return Condition(reasons.STORAGE_READY, True, _FIRST_CONSUMER, message)
    if progress(claim) is Resize.FAILED:
        message = f"claim {name!r} is bound and serves, but its growth failed: {failure(claim)}"
        return Condition(reasons.STORAGE_READY, True, "ResizeFailed", message)
    if (refused := _growth_refused(outcome)) is not None:
        message = f"claim {name!r} is bound and serves, but may not grow: {refused.message}"
        return Condition(reasons.STORAGE_READY, True, "ResizeFailed", message)
    return Condition(reasons.STORAGE_READY, True, "ClaimBound", f"claim {name!r} is bound")


def keeps_pod_from_starting(outcome: Outcome) -> Finding | None:
    """What Ready says of a pod that is there and cannot have its volume: more telling than that it is pending."""
    trouble = volume_affinity.volume_problem(outcome.snapshot)
    return Finding("StorageNotReady", trouble.message) if trouble is not None else None


def _not_ready_finding(outcome: Outcome) -> Finding | None:
    snapshot, claim = outcome.snapshot, outcome.snapshot.children.pvc
    existing, user = snapshot.storage.storage.claim_name, snapshot.claim_context.claim_holder
    if claim is None:
        return _missing_claim_finding(snapshot)
    name = claim["metadata"]["name"]
    if existing and not plans.claim_is_shareable(claim):
        message = f"spec.storage.claimName: claim {name!r} lacks the label userstorage.dev/shareable=true"
        return Finding("ClaimNotAllowed", message)
    if user is not None:
        field = "spec.storage.claimName: " if existing else ""
        return Finding("ClaimInUse", f"{field}claim {name!r} serves UserStorage {user!r}, and one at a time")
    if plans.claim_is_disappearing(snapshot):
        return Finding("ClaimTerminating", f"claim {name!r} is being deleted; no pod is started on it")
    if claim.get("status", {}).get("phase") == "Lost":
        return Finding("ClaimLost", f"the volume of claim {name!r} is gone")
    if trouble := volume_affinity.volume_problem(snapshot):
        return trouble
    if (refused := _growth_refused(outcome)) is not None and refused.reason == "ExpansionNotSupported":
        return Finding("ExpansionNotSupported", f"claim {name!r} cannot grow: {refused.message}")
    return None if _has_volume(snapshot, claim) else _pending(snapshot, claim)


def _missing_claim_finding(snapshot: Snapshot) -> Finding | None:
    """None where there must be one although it was not looked up: a pod that is ready mounts it."""
    existing, not_read = snapshot.storage.storage.claim_name, snapshot.claim_context.claim_read_error
    if existing is None:
        return Finding("ClaimNotFound", "the claim is not made yet")
    if not_read is None:
        return Finding("ClaimNotFound", f"spec.storage.claimName: there is no claim {existing!r}")
    if _serves(snapshot):
        return None
    return Finding("ClaimNotFound", f"spec.storage.claimName: claim {existing!r} was not looked up: {not_read}")


def _growth_refused(outcome: Outcome) -> GrowthRefused | None:
    error = outcome.failure.error if outcome.failure is not None else None
    return error if isinstance(error, GrowthRefused) else None


def _has_volume(snapshot: Snapshot, claim: Unstructured) -> bool:
    """Bound; or mounted by a pod that is ready: of the two watches that of the claim is then merely behind."""
    return claim.get("status", {}).get("phase") == "Bound" or _serves(snapshot)


def _serves(snapshot: Snapshot) -> bool:
    return snapshot.own_pod is not None and pod_status.is_ready(snapshot.own_pod)


def _pending(snapshot: Snapshot, claim: Unstructured) -> Finding | None:
    """Why the claim has no volume; None where it gets one with the pod that is there.

    The API server writes the default StorageClass into the claim: what the claim names is what counts.
    """
    name, class_name = claim["metadata"]["name"], claim["spec"].get("storageClassName")
    modes = snapshot.claim_context.binding_modes
    if class_name is None:
        return Finding("ClaimPending", f"claim {name!r} waits for a volume: it names no StorageClass, and there was no default")
    if class_name and class_name not in modes:
        return Finding("ClaimPending", f"claim {name!r} waits for a volume: there is no StorageClass {class_name!r}")
    if modes.get(class_name) != _FIRST_CONSUMER:
        return Finding("ClaimPending", f"claim {name!r} waits for a volume")
    if snapshot.own_pod is not None:
        return None
    return Finding("ClaimPending", f"claim {name!r} is not bound: its volume comes with its first pod")
