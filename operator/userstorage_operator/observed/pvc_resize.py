"""The progress of a volume expansion, from the status that the resize controllers write to the claim."""

from enum import StrEnum

from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.unstructured import Unstructured


class Resize(StrEnum):
    """The values of `status.storage.resize`."""

    REQUESTED = "Requested"
    IN_PROGRESS = "InProgress"
    NODE_PENDING = "NodePending"
    FAILED = "Failed"


_BY_ALLOCATION = {
    "ControllerResizeInProgress": Resize.IN_PROGRESS,
    "ControllerResizeInfeasible": Resize.FAILED,
    "NodeResizePending": Resize.NODE_PENDING,
    "NodeResizeInProgress": Resize.IN_PROGRESS,
    "NodeResizeInfeasible": Resize.FAILED,
}
_BY_CONDITION = {
    "ControllerResizeError": Resize.FAILED,
    "NodeResizeError": Resize.FAILED,
    "FileSystemResizePending": Resize.NODE_PENDING,
    "Resizing": Resize.IN_PROGRESS,
}
"""Condition type of the claim -> progress, the decisive type first: an error stays while the expansion is retried."""


def progress(claim: Unstructured, wanted: str | None) -> Resize | None:
    """Return the progress of the expansion; None if the volume has the requested size or does not exist yet, or if it has the
    `wanted` one: of a growth that was taken back, Kubernetes keeps a request that is larger than the volume.
    """
    status = claim.get("status", {})
    capacity = status.get("capacity", {}).get("storage")
    requested = claim["spec"]["resources"]["requests"]["storage"]
    if status.get("phase") != "Bound" or capacity is None or parse_quantity(requested) <= parse_quantity(capacity):
        return None
    if wanted is not None and parse_quantity(wanted) <= parse_quantity(capacity):
        return None
    conditions = _true_conditions(claim)
    by_condition = next((resize for kind, resize in _BY_CONDITION.items() if kind in conditions), None)
    allocation = _BY_ALLOCATION.get(status.get("allocatedResourceStatuses", {}).get("storage", ""))
    return by_condition if by_condition is Resize.FAILED else allocation or by_condition or Resize.REQUESTED


def failure(claim: Unstructured) -> str:
    """Return why the expansion failed, as reported by the controller that tried it."""
    conditions = _true_conditions(claim)
    message = next((conditions[kind] for kind in _BY_CONDITION if conditions.get(kind)), None)
    return message or claim.get("status", {}).get("allocatedResourceStatuses", {}).get("storage", "no reason given")


def _true_conditions(claim: Unstructured) -> dict[str, str]:
    """Return type -> message of the claim's conditions that are True."""
    conditions = claim.get("status", {}).get("conditions") or ()
    return {entry["type"]: entry.get("message") or "" for entry in conditions if entry["status"] == "True"}
