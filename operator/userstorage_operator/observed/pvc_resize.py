"""How far the growth of a volume has come, from what the controllers that grow it write onto the claim."""

from enum import StrEnum

from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.unstructured import Unstructured


class Resize(StrEnum):
    """`status.storage.resize`."""

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
"""In the order in which they count: an error stays beside the condition of what is tried again."""


def progress(claim: Unstructured) -> Resize | None:
    """None where the volume has the size that was asked for, or where there is none yet."""
    status = claim.get("status", {})
    capacity = status.get("capacity", {}).get("storage")
    requested = claim["spec"]["resources"]["requests"]["storage"]
    if status.get("phase") != "Bound" or capacity is None or parse_quantity(requested) <= parse_quantity(capacity):
        return None
    conditions = _true_conditions(claim)
    told = next((resize for kind, resize in _BY_CONDITION.items() if kind in conditions), None)
    allocation = _BY_ALLOCATION.get(status.get("allocatedResourceStatuses", {}).get("storage", ""))
    return told if told is Resize.FAILED else allocation or told or Resize.REQUESTED


def failure(claim: Unstructured) -> str:
    """Why the growth failed, in the words of the controller that tried."""
    conditions = _true_conditions(claim)
    words = next((conditions[kind] for kind in _BY_CONDITION if conditions.get(kind)), None)
    return words or claim.get("status", {}).get("allocatedResourceStatuses", {}).get("storage", "no reason given")


def _true_conditions(claim: Unstructured) -> dict[str, str]:
    """Type -> message of the claim's conditions that hold."""
    conditions = claim.get("status", {}).get("conditions") or ()
    return {entry["type"]: entry.get("message") or "" for entry in conditions if entry["status"] == "True"}
