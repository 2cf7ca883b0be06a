"""How a change of a class reaches its users: one by one standing of each, and how many may be down at a time."""

from dataclasses import dataclass
from enum import Enum

from userstorage_operator.api.errors import ClassFull, NameConflict
from userstorage_operator.observed.snapshot import is_ours, is_terminating
from userstorage_operator.status import conditions
from userstorage_operator.status.outcome import Verdict
from userstorage_operator.status.storage_ready import storage_ready


class Waits(Enum):
    """What a UserStorage waits for that another one of its class has."""

    FOR_TURN = "turn"
    """To be replaced in a rollout."""
    FOR_PLACE = "place"
    """To be one of the `limits.maxPerNamespace` of its namespace."""


@dataclass(frozen=True, slots=True)
class Standing:
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
    waits: Waits | None = None


_PASSING = frozenset({"PodPending", "PodNotReady", "PodTerminating", "StorageNotReady"})
"""Reasons of Ready that belong to a start that goes well."""


def standing(verdict: Verdict) -> Standing:
    """Told from one pass, for the budget and for the status of the class."""
    world, pod = verdict.world, verdict.world.children.pod
    storage = world.storage
    trouble, freshness = conditions.why_not_ready(verdict), conditions.pod_up_to_date(verdict)
    wanted = storage.meta.deleted_at is None and not storage.suspended
    has_pod = pod is not None and is_ours(pod, storage.meta.uid) and not is_terminating(pod)
    outdated = has_pod and verdict.desired is not None and not freshness.status
    return Standing(
        class_name=world.cls.name if world.cls is not None else storage.class_name or "",
        class_generation=world.cls.generation if world.cls is not None else 0,
        running=wanted and verdict.desired is not None and not _held_by_its_own(verdict),
        available=trouble is None,
        updated=freshness.status,
        outdated=outdated,
        deferred=outdated and freshness.reason == "UpdateDeferred",
        failed=wanted and trouble is not None and trouble.reason not in _PASSING,
        waits=_waits(verdict, freshness.reason),
    )


def _held_by_its_own(verdict: Verdict) -> bool:
    """Whether it is down for a reason that no change of its class can have brought about, and that a tenant may choose:
    that must not use up the budget of all.
    """
    error = verdict.hindrance.error if verdict.hindrance is not None else None
    if isinstance(error, NameConflict) or (error is not None and error.reason in ("QuotaExceeded", "NamespaceTerminating")):
        return True
    if verdict.plan.hold == "StorageNotReady" or storage_ready(verdict).reason == "ClaimPending":
        return True
    trouble = conditions.why_not_ready(verdict)
    placed_by_user = verdict.world.storage.scheduling is not None
    return placed_by_user and trouble is not None and trouble.reason == "Unschedulable"


def _waits(verdict: Verdict, freshness: str) -> Waits | None:
    if verdict.failure is not None and isinstance(verdict.failure.error, ClassFull):
        return Waits.FOR_PLACE
    return Waits.FOR_TURN if freshness == "WaitingForRollout" else None


def budget(max_unavailable: str, running: int) -> int:
    """How many of `running` may be down at one time. A percentage is rounded up, so it is never none."""
    if not max_unavailable.endswith("%"):
        return int(max_unavailable)
    return max(1, -(-int(max_unavailable[:-1]) * running // 100))
