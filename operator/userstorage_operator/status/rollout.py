"""The rollout of a changed class: the state of each member, and how many members may be unavailable at a time."""

from dataclasses import dataclass
from enum import Enum

from userstorage_operator.api.errors import NameConflict, QuotaExceeded
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.snapshot import Snapshot, is_terminating
from userstorage_operator.plan import pod as plans
from userstorage_operator.status import conditions
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.storage_ready import claim_is_pending, storage_ready


class WaitingFor(Enum):
    """What a UserStorage waits for as long as other members of its class have it."""

    ROLLOUT_SLOT = "turn"
    """A slot in the rollout of the class: the permission to replace the pod."""
    QUOTA = "place"
    """A place within `limits.maxPerNamespace` of the class, in the namespace of the UserStorage."""


@dataclass(frozen=True, slots=True)
class MemberState:
    """The state of one UserStorage as a member of its class."""

    class_name: str
    class_generation: int
    """Generation of the class in this reconcile; 0 if the class does not exist."""
    running: bool = False
    """Whether the UserStorage should run, and neither a problem of its own nor a pause prevents that.

    A percentage in `maxUnavailable` is of the running members.
    """
    available: bool = False
    """Whether the UserStorage is ready, with a pod that is meant to keep running."""
    updated: bool = False
    """Whether the pod matches the current class, or the UserStorage is suspended and its next pod will match."""
    outdated: bool = False
    """Whether the pod was created from an earlier version of the class, or of the spec of the UserStorage."""
    deferred: bool = False
    """Whether the pod stays outdated until a person acts: the UserStorage is paused, its updateStrategy is WhenSuspended, or no other
    pod could use its claim.
    """
    failed: bool = False
    """Whether it should run, but is not ready for a reason that does not pass by itself."""
    evicted: bool = False
    """Whether another controller terminates its pod: a drain, or a node that was lost."""
    waiting_for: WaitingFor | None = None
    replaced: bool = False
    """The rollout of this version of the class replaced its pod while that was available. Set by the rollout tracker."""

    @property
    def is_down(self) -> bool:
        """Whether it should be running, is not available, and has no outdated pod that explains it."""
        return self.running and not self.available and not self.outdated

    @property
    def uses_slot(self) -> bool:
        """Whether it is unavailable by an act of the rollout: those that were down before do not count."""
        return self.replaced and self.is_down

    @property
    def is_next(self) -> bool:
        """Whether it is available and the rollout has to replace its pod."""
        return self.running and self.available and self.outdated and not self.deferred


_DEFERRED = plans.KEPT_AS_LAST | {"UpdateDeferred"}
"""Reasons of PodUpToDate that no rollout ends."""
_TRANSIENT = frozenset(
    {"PodPending", "PodNotReady", "SchedulingGated", "ReadinessGatesNotReady", "PodTerminating", "StorageNotReady"}
)
"""Reasons of Ready that occur in every successful start."""


def member_state(outcome: Outcome) -> MemberState:
    """Return the state of a UserStorage as a member of its class, after one reconcile."""
    snapshot, pod = outcome.snapshot, outcome.snapshot.own_pod
    storage = snapshot.storage
    problem, up_to_date = conditions.not_ready_finding(outcome), conditions.pod_up_to_date(outcome)
    should_run = not storage.is_deleting and not storage.suspended
    has_pod = pod is not None and not is_terminating(pod)
    outdated = has_pod and outcome.desired is not None and not up_to_date.status
    return MemberState(
        class_name=snapshot.cls.name if snapshot.cls is not None else storage.class_name or "",
        class_generation=snapshot.cls.generation if snapshot.cls is not None else 0,
        running=should_run and not storage.paused and outcome.desired is not None and not _blocked_by_own_problem(outcome),
        available=problem is None,
        updated=up_to_date.status,
        outdated=outdated,
        deferred=outdated and (storage.paused or up_to_date.reason in _DEFERRED),
        failed=should_run and problem is not None and problem.reason not in _TRANSIENT,
        evicted=pod is not None and pod_status.disruption(pod) is not None,
        waiting_for=_waiting_for(outcome, up_to_date.reason) if not storage.paused else None,
    )


def has_ready_pod(snapshot: Snapshot) -> bool:
    """Whether the user has a browser that a replacement of the pod would interrupt."""
    pod = snapshot.own_pod
    return pod is not None and not is_terminating(pod) and pod_status.is_ready(pod)


def _blocked_by_own_problem(outcome: Outcome) -> bool:
    """Whether the UserStorage is down for a reason that no change of its class can have caused.

    Tenants can cause such reasons, so these UserStorages must not use up the rollout budget of the whole class.
    """
    error = outcome.blocking_failure.error if outcome.blocking_failure is not None else None
    if isinstance(error, NameConflict) or (error is not None and error.reason in ("QuotaExceeded", "NamespaceTerminating")):
        return True
    if outcome.plan.hold in ("StorageNotReady", "NetworkNotReady") or _waits_for_volume(outcome):
        return True
    problem = conditions.not_ready_finding(outcome)
    has_own_scheduling = outcome.snapshot.storage.scheduling is not None
    return has_own_scheduling and problem is not None and problem.reason == "Unschedulable"


def _waits_for_volume(outcome: Outcome) -> bool:
    return storage_ready(outcome).reason in ("ClaimPending", "ClaimReplaced") and claim_is_pending(outcome)


def _waiting_for(outcome: Outcome, up_to_date_reason: str) -> WaitingFor | None:
    if outcome.failure is not None and isinstance(outcome.failure.error, QuotaExceeded):
        return WaitingFor.QUOTA
    return WaitingFor.ROLLOUT_SLOT if up_to_date_reason == "WaitingForRollout" else None


def unavailable_budget(max_unavailable: str, running: int) -> int:
    """Return how many of `running` members may be unavailable at a time. A percentage gives at least 1, as it is rounded up."""
    if not max_unavailable.endswith("%"):
        return int(max_unavailable)
    return max(1, -(-int(max_unavailable[:-1]) * running // 100))
