"""Status conditions as in the Kubernetes API conventions: one per type; `lastTransitionTime` changes only with its status."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.text import printable

MESSAGE_MAX = 1024
_NEVER = "1970-01-01T00:00:00Z"
"""`lastTransitionTime` in the CRD's default status: a placeholder until the operator writes the status for the first time."""


class Phase(StrEnum):
    """A one-word summary of the status for people. Programs should read the conditions."""

    PENDING = "Pending"
    STARTING = "Starting"
    READY = "Ready"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    FAILED = "Failed"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True)
class Condition:
    """A status condition, still without `lastTransitionTime` and `observedGeneration`, which `merge` adds."""

    type: str
    status: bool
    reason: str
    message: str


def merge(
    previous: Iterable[Mapping[str, str]], current: Iterable[Condition], generation: int, now: datetime
) -> list[Unstructured]:
    """Return the `current` conditions as they are written to the status, in the given order.

    A condition whose status has not changed keeps its `lastTransitionTime` from `previous`. Conditions of `previous` whose type
    is missing in `current` are dropped: every reconcile computes all conditions.
    """
    before = {entry["type"]: entry for entry in previous}
    merged: list[Unstructured] = []
    for condition in current:
        status = "True" if condition.status else "False"
        old = before.get(condition.type)
        unchanged = old is not None and old["status"] == status and old["lastTransitionTime"] != _NEVER
        merged.append(
            {
                "type": condition.type,
                "status": status,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if old is not None and unchanged else format_time(now),
                "reason": condition.reason,
                "message": printable(condition.message)[:MESSAGE_MAX],
            }
        )
    return merged
