"""How a change of a class reaches its users: one by one standing of each, and how many may be down at a time."""

from dataclasses import dataclass
from enum import Enum

from userstorage_operator.api.errors import NameConflict, QuotaExceeded
from userstorage_operator.observed.snapshot import is_terminating
from userstorage_operator.status import conditions
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.storage_ready import storage_ready


class WaitingFor(Enum):
    """What a UserStorage waits for that another one of its class has."""

    ROLLOUT_SLOT = "turn"
    """To be replaced in a rollout."""
    QUOTA = "place"
    """To be one of the `limits.maxPerNamespace` of its namespace."""


@dataclass(frozen=True, slots=True)
class MemberState:
    """How one UserStorage stands towards its class."""

    class_name: str
    class_generation: int
    """Of the class as this pass saw it; 0 where it is not there."""
    running: bool = False
    """Meant to run, with nothing of its own in the way: these are what the rollout's budget is a part of."""
    available: bool = False
    updated: bool = False
    """Has the class as it is now, or is suspended and will have it at its next start."""
    outdated: bool = False
    """Has a pod of the class as it was, or of its own spec as it was."""
    deferred: bool = False
    """Outdated because its updateStrategy says so."""
    failed: bool = False
    """Not ready for a reason that does not pass by itself."""
    waiting_for: WaitingFor | None = None


_TRANSIENT = frozenset({"PodPending", "PodNotReady", "PodTerminating", "StorageNotReady"})
"""Reasons of Ready that belong to a start that goes well."""


def member_state(outcome: Outcome) -> MemberState:
    """Told from one pass, for the budget and for the status of the class."""
    snapshot, pod = outcome.snapshot, outcome.snapshot.own_pod
    storage = snapshot.storage
    trouble, freshness = conditions.not_ready_finding(outcome), conditions.pod_up_to_date(outcome)
    wanted = not storage.is_deleting and not storage.suspended
    has_pod = pod is not None and not is_terminating(pod)
    outdated = has_pod and outcome.desired is not None and not freshness.status
    return MemberState(
        class_name=snapshot.cls.name if snapshot.cls is not None else storage.class_name or "",
        class_generation=snapshot.cls.generation if snapshot.cls is not None else 0,
        running=wanted and outcome.desired is not None and not _blocked_by_own_problem(outcome),
        available=trouble is None,
        updated=freshness.status,
        outdated=outdated,
        deferred=outdated and freshness.reason == "UpdateDeferred",
        failed=wanted and trouble is not None and trouble.reason not in _TRANSIENT,
        waiting_for=_waiting_for(outcome, freshness.reason),
    )


def _blocked_by_own_problem(outcome: Outcome) -> bool:
    """Whether it is down for a reason that no change of its class can have brought about, and that a tenant may choose:
    that must not use up the budget of all.
    """
    error = outcome.blocking_failure.error if outcome.blocking_failure is not None else None
    if isinstance(error, NameConflict) or (error is not None and error.reason in ("QuotaExceeded", "NamespaceTerminating")):
        return True
    if outcome.plan.hold == "StorageNotReady" or storage_ready(outcome).reason == "ClaimPending":
        return True
    trouble = conditions.not_ready_finding(outcome)
    placed_by_user = outcome.snapshot.storage.scheduling is not None
    return placed_by_user and trouble is not None and trouble.reason == "Unschedulable"


def _waiting_for(outcome: Outcome, freshness: str) -> WaitingFor | None:
    if outcome.failure is not None and isinstance(outcome.failure.error, QuotaExceeded):
        return WaitingFor.QUOTA
    return WaitingFor.ROLLOUT_SLOT if freshness == "WaitingForRollout" else None


def unavailable_budget(max_unavailable: str, running: int) -> int:
    """How many of `running` may be down at one time. A percentage is rounded up, so it is never none."""
    if not max_unavailable.endswith("%"):
        return int(max_unavailable)
    return max(1, -(-int(max_unavailable[:-1]) * running // 100))
