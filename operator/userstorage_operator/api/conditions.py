"""Conditions as the API conventions want them: one per type, and a transition time that moves only with the status."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured

MESSAGE_MAX = 1024
_NEVER = "1970-01-01T00:00:00Z"
"""The time in the schema's default status: no transition, only a placeholder for the operator's first word."""


class Phase(StrEnum):
    """One word for people; programs read the conditions."""

    PENDING = "Pending"
    STARTING = "Starting"
    READY = "Ready"
    DEGRADED = "Degraded"
    SUSPENDED = "Suspended"
    FAILED = "Failed"
    TERMINATING = "Terminating"


@dataclass(frozen=True, slots=True)
class Condition:
    """One statement about the object, without the time it was made."""

    type: str
    status: bool
    reason: str
    message: str


def merge(
    previous: Iterable[Mapping[str, str]], current: Iterable[Condition], generation: int, now: datetime
) -> list[Unstructured]:
    """`current` as the API writes it, in the order given. Types that are not in `current` are dropped: all of ours
    are computed on every pass.
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
                "message": condition.message[:MESSAGE_MAX],
            }
        )
    return merged
