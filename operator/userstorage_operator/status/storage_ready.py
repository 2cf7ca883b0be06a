"""The condition StorageReady: whether the claim has a volume and the pod can use it."""

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import GrowthRefused
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.subpath import Directory
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.claim_usage import serves_one, single_node
from userstorage_operator.observed.lost_claim import ClaimIdentity, lost_claim, waits_for_consent
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.pvc_resize import Resize, failure, progress
from userstorage_operator.observed.snapshot import Snapshot, controller, is_terminating
from userstorage_operator.plan import pod as plans
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.builders import claim_name, claim_use
from userstorage_operator.plan.deferred_changes import ids_of_files
from userstorage_operator.plan.diff import is_requested
from userstorage_operator.status.outcome import Outcome

NEEDS_MANUAL_ACTION = frozenset({"ClaimNotAllowed", "ClaimInUse", "ClaimDeleted"})
"""Reasons of StorageReady that the condition Stalled reports too."""
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
    if progress(claim, snapshot.storage.own_size) is Resize.FAILED:
        message = f"claim {name!r} is bound and in use, but expanding it failed: {failure(claim)}"
        return Condition(reasons.STORAGE_READY, True, "ResizeFailed", message)
    if (refused := _growth_refused(outcome)) is not None:
        message = f"claim {name!r} is bound and in use, but its size may not be changed: {refused.message}"
        return Condition(reasons.STORAGE_READY, True, "ResizeFailed", message)
    if (difference := _size_difference(snapshot, claim)) is not None:
        return Condition(reasons.STORAGE_READY, True, "SizeDiffers", f"claim {name!r} is bound, but {difference}")
    if (contest := outcome.contest(Kind.PVC)) is not None:
        return Condition(reasons.STORAGE_READY, True, "Contested", f"claim {name!r} is bound, but {contest.message}")
    if (owner := _foreign_controller(snapshot, claim)) is not None:
        owned_by = f"{owner['kind']} {owner['name']!r}"
        message = f"claim {name!r} is bound, but {owned_by} controls it: deleting that deletes the claim and its files"
        return Condition(reasons.STORAGE_READY, True, "ControlledByOther", message)
    return Condition(reasons.STORAGE_READY, True, "ClaimBound", f"claim {name!r} is bound{_owner_note(snapshot)}")


def keeps_pod_from_starting(outcome: Outcome) -> Finding | None:
    """Return StorageNotReady if the pod cannot mount its volume, or may not be replaced because it keeps the files; else None.

    Ready then reports this instead of PodPending.
    """
    if outcome.desired is not None and plans.kept_despite(outcome.snapshot, outcome.desired, outcome.now) is not None:
        return Finding("StorageNotReady", storage_ready(outcome).message)
    problem = volume_affinity.volume_problem(outcome.snapshot)
    return Finding("StorageNotReady", problem.message) if problem is not None else None


def keeps_running(outcome: Outcome) -> bool:
    """Whether our pod runs on although another UserStorage has the claim or directory that the spec asks for."""
    snapshot, pod = outcome.snapshot, outcome.snapshot.own_pod
    if pod is None or is_terminating(pod) or outcome.desired is None:
        return False
    return plans.stop_reason(snapshot, outcome.desired) is None


def _not_ready_finding(outcome: Outcome) -> Finding | None:
    snapshot, claim = outcome.snapshot, outcome.snapshot.children.pvc
    holder = snapshot.claim_context.claim_holder
    if claim is None:
        contest = outcome.contest(Kind.PVC)
        return Finding("Contested", contest.message) if contest is not None else _missing_claim_finding(snapshot)
    name = claim["metadata"]["name"]
    if plans.claim_is_withdrawn(snapshot):
        return Finding("ClaimNotAllowed", _not_allowed_message(snapshot, name))
    if holder is not None and not (plans.claim_is_disappearing(snapshot) and keeps_running(outcome)):
        note = "; the pod keeps running where it was" if keeps_running(outcome) else ""
        return Finding("ClaimInUse", _in_use_message(snapshot, claim, holder) + note)
    if plans.claim_is_disappearing(snapshot):
        return Finding("ClaimTerminating", _terminating_message(snapshot, name))
    if plans.claim_is_lost(snapshot):
        return Finding("ClaimLost", _lost_message(outcome, name))
    if problem := volume_affinity.volume_problem(snapshot):
        return problem
    if (lost := lost_claim(snapshot)) is not None:
        return _replaced(snapshot, claim, lost)
    if (refused := _growth_refused(outcome)) is not None and refused.reason == "ExpansionNotSupported":
        return Finding("ExpansionNotSupported", f"claim {name!r} cannot be expanded: {refused.message}")
    return None if _has_volume(snapshot, claim) else _pending(snapshot, claim)


def _lost_message(outcome: Outcome, name: str) -> str:
    message = f"the volume of claim {name!r} no longer exists"
    if not keeps_running(outcome):
        return message
    return f"{message}; the pod may still have the files, so the operator does not replace it. Copy the files"


def _not_allowed_message(snapshot: Snapshot, name: str) -> str:
    message = (
        f"spec.storage.claimName: claim {name!r} lacks the label {_label(names.SHARE_ONE)}, or {_label(names.SHARE_DIRECTORIES)} "
        "for many UserStorages with a directory each (storage.subPath); its owner must set it"
    )
    if snapshot.own_pod is None or is_terminating(snapshot.own_pod):
        return message
    return f"{message}. The pod keeps running; the operator does not replace it, because the next pod may not use the claim"


def _in_use_message(snapshot: Snapshot, claim: Unstructured, holder: str) -> str:
    name, storage = claim["metadata"]["name"], snapshot.storage.storage
    if not serves_one(claim):
        field = "spec.storage.subPath: " if storage.sub_path is not None else ""
        own, other = claim_use(snapshot.storage).directory, snapshot.claim_context.holder_directory
        uses = f"{_directory(own)} of claim {name!r} is in use by UserStorage {holder!r}"
        detail = "" if own == other else f", which has {_directory(other)}"
        return f"{field}{uses}{detail}; a directory, with all below it, serves one UserStorage, or several that only read"
    field = "spec.storage.claimName: " if storage.claim_name is not None else ""
    message = f"{field}claim {name!r} is in use by UserStorage {holder!r}; a claim can serve only one UserStorage at a time"
    if single_node(claim):
        modes = ", ".join(claim["spec"].get("accessModes") or ())
        return f"{message}: its access mode is {modes}, and only one with ReadWriteMany can be shared"
    return (
        f"{message}, unless its owner sets the label {_label(names.SHARE_DIRECTORIES)} and each UserStorage has a directory of "
        "its own (storage.subPath)"
    )


def _label(value: str) -> str:
    return f"{names.LABEL_SHAREABLE}={value}"


def _directory(directory: Directory) -> str:
    return f"directory {'/'.join(directory)!r}" if directory else "the root"


def _missing_claim_finding(snapshot: Snapshot) -> Finding | None:
    """Return ClaimNotFound if the claim is missing or was not read; None if a ready pod proves that the unread claim exists."""
    existing, read_error = snapshot.storage.storage.claim_name, snapshot.claim_context.claim_read_error
    if waits_for_consent(snapshot) and (lost := lost_claim(snapshot)) is not None:
        message = (
            f"{_identified(lost)} held the files and was deleted; the class asks to wait (storage.onClaimLoss) before another one "
            f"is used. {_next_step(lost)}"
        )
        return Finding("ClaimDeleted", message)
    if existing is None:
        return Finding("ClaimNotFound", "the claim has not been created yet")
    if read_error is None:
        return Finding("ClaimNotFound", f"spec.storage.claimName: claim {existing!r} does not exist")
    if _is_used_by_ready_pod(snapshot):
        return None
    return Finding("ClaimNotFound", f"spec.storage.claimName: claim {existing!r} was not read: {read_error}")


def _terminating_message(snapshot: Snapshot, name: str) -> str:
    """Return what the deletion of the claim means for its files."""
    pod = snapshot.own_pod
    if pod is None:
        return f"claim {name!r} is being deleted; no pod is started on it"
    if is_terminating(pod) or snapshot.storage.suspended:
        return f"claim {name!r} is being deleted; when its pod is gone, it is gone too, with its files unless the volume is retained"
    return (
        f"claim {name!r} is being deleted; the pod still keeps it, so the operator does not replace the pod. Copy the files: "
        "a suspension, a deletion or a drain ends the pod, and with it the claim and, unless the volume is retained, the files"
    )


def _replaced(snapshot: Snapshot, claim: Unstructured, lost: ClaimIdentity) -> Finding:
    """Return that the claim is another one than the claim that held the files, and what it waits for if it has no volume."""
    meta = claim["metadata"]
    pending = None if _has_volume(snapshot, claim) else _pending(snapshot, claim)
    note = f"; {pending.message}" if pending is not None else ""
    if waits_for_consent(snapshot):
        note = "; the class asks to wait (storage.onClaimLoss), so no pod is started on it"
    message = (
        f"{_identified(lost)} held the files and was deleted; claim {meta['name']!r} was created in its place at "
        f"{meta['creationTimestamp']} and does not have them{note}. {_next_step(lost)}"
    )
    return Finding("ClaimReplaced", message)


def _identified(lost: ClaimIdentity) -> str:
    return f"the claim with UID {lost.uid!r} and volume {lost.volume!r}"


def _next_step(lost: ClaimIdentity) -> str:
    return f"Restore the files if you can; then set spec.storage.acceptedClaimLoss to {lost.uid!r}"


def claim_is_pending(outcome: Outcome) -> bool:
    """Whether the claim waits for a volume that no pod of ours can get for it."""
    snapshot, claim = outcome.snapshot, outcome.snapshot.children.pvc
    return claim is not None and not _has_volume(snapshot, claim) and _pending(snapshot, claim) is not None


def _growth_refused(outcome: Outcome) -> GrowthRefused | None:
    error = outcome.failure.error if outcome.failure is not None else None
    return error if isinstance(error, GrowthRefused) else None


def _owner_note(snapshot: Snapshot) -> str:
    """Return, for the end of a message, that the pod runs as other ids than the class asks for; empty if it does not."""
    ids, cls = ids_of_files(snapshot), snapshot.cls
    if ids is None or cls is None or ids == cls.ids:
        return ""
    return f"; its files belong to {ids} (user:group:fsGroup), as which the pod runs instead of {cls.ids} of the class"


def _size_difference(snapshot: Snapshot, claim: Unstructured) -> str | None:
    """Return why the claim does not request the size that the spec asks for, and will not; None if it does, or is about to.

    A volume that is larger than what was ever requested is no difference: provisioners round up.
    """
    size, capacity = snapshot.storage.own_size, claim.get("status", {}).get("capacity", {}).get("storage")
    requested = claim["spec"]["resources"]["requests"]["storage"]
    if size is None or capacity is None or parse_quantity(size) == parse_quantity(requested):
        return None
    if parse_quantity(size) < min(parse_quantity(capacity), parse_quantity(requested)):
        return f"its volume has {capacity}, more than spec.storage.size {size}; a volume cannot shrink"
    if parse_quantity(size) <= parse_quantity(capacity) or not is_requested(claim, size):
        return None
    return (
        f"another client made it request {requested} instead of spec.storage.size {size}; "
        "it stays so until spec.storage.size changes"
    )


def _foreign_controller(snapshot: Snapshot, claim: Unstructured) -> Unstructured | None:
    """Return the ownerReference of another object that controls the user's own claim; None if there is none."""
    owner = controller(claim)
    if owner is None or snapshot.storage.storage.claim_name is not None or owner["uid"] == snapshot.storage.meta.uid:
        return None
    return owner


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
    size, requested = snapshot.storage.own_size, claim["spec"]["resources"]["requests"]["storage"]
    if size is not None and parse_quantity(size) < parse_quantity(requested):
        message = (
            f"claim {name!r} waits for a volume of {requested}, and spec.storage.size is {size}: Kubernetes changes no claim "
            "without a volume; delete it, and it is created again"
        )
        return Finding("ClaimPending", message)
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
