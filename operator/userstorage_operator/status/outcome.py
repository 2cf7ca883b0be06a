"""The outcome of a reconcile: the facts behind status, events, log and queue, and what each error means for them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from userstorage_operator.api.errors import ClusterError, Conflict, InternalError, NameConflict, OperatorError, Retry
from userstorage_operator.api.resources import Kind
from userstorage_operator.observed import backoff
from userstorage_operator.observed.contest import Contest
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.steps import Plan

_CONFLICTS = 4
"""From this number in a row on, Conflict errors are reported as failures."""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The result of applying a plan: the snapshot after the steps that succeeded, and the error of the step that failed."""

    snapshot: Snapshot
    plan: Plan
    error: OperatorError | None = None
    non_blocking: bool = False
    """Whether the plan continued after the error: the step `is_optional`, or its repair is delayed (ConflictingController)."""
    finalizer_removed: bool = False
    """Whether our finalizer was removed. The UserStorage may be gone then, so no status is written."""
    action: str = ""
    """The request that failed, as in the log (`create Pod`); empty if no request failed."""
    contests: tuple[Contest, ...] = ()
    """Children that another client keeps changing or deleting."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of a reconcile, the number of failed reconciles in a row, and what follows from both.

    What follows is decided here and nowhere else:

    | error | queue | condition | event | log |
    |---|---|---|---|---|
    | a lost race (Conflict), fewer than 4 in a row | backoff | none: the next reconcile reads the new state | none | debug |
    | waits for a change (Retry.ON_CHANGE) | no retry, but a reconcile at the next deadline (status/requeue.py) | Stalled | Warning | warning |
    | NameConflict | backoff | Stalled | Warning | warning |
    | InternalError, a fault of the operator | backoff | Reconciling | Warning | error with traceback |
    | any other | backoff, not before its Retry-After | Reconciling | by reason (status/events.py) | warning |

    A repetition of the same failure is logged at debug level only (runtime/worker.py).
    """

    error: OperatorError
    attempts: int
    next_retry: datetime | None
    """When the queue retries; None if it does not, so that only a watch event or a deadline leads to another reconcile."""
    non_blocking: bool = False
    """Whether the plan continued after the error, so that it does not block access to the files."""
    action: str = ""
    """The request that failed, as in the log (`create Pod`); empty if no request failed."""

    @classmethod
    def of(
        cls, error: OperatorError, attempts: int, now: datetime, *, non_blocking: bool = False, action: str = ""
    ) -> "Failure":
        """Return the Failure for `error`. The reconcile is the `attempts`-th in a row that failed."""
        retries = error.retry is Retry.BACKOFF
        wait = max(backoff.delay(attempts), (error.retry_after or 0.0) if isinstance(error, ClusterError) else 0.0)
        next_retry = now + timedelta(seconds=wait) if retries else None
        return cls(error, attempts, next_retry, non_blocking, action)

    @property
    def is_lost_race(self) -> bool:
        """Whether an object changed during the reconcile (Conflict), fewer than four times in a row."""
        return isinstance(self.error, Conflict) and self.attempts < _CONFLICTS

    @property
    def needs_manual_action(self) -> bool:
        """Whether a person has to change something before a retry can succeed. The condition Stalled reports it."""
        return self.error.retry is Retry.ON_CHANGE or isinstance(self.error, NameConflict)

    @property
    def retries(self) -> bool:
        """Whether the queue tries again after a growing delay."""
        return self.error.retry is Retry.BACKOFF

    @property
    def retry_after(self) -> float:
        """Seconds that the API server asked us to wait; 0 if it did not."""
        return (self.error.retry_after or 0.0) if isinstance(self.error, ClusterError) else 0.0

    @property
    def exception(self) -> Exception | None:
        """The exception behind an InternalError, for the traceback in the log; None for other errors."""
        return self.error.cause if isinstance(self.error, InternalError) else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reconcile ended with: the snapshot after its own writes, the desired children, the plan, and what failed."""

    snapshot: Snapshot
    desired: Desired | None
    """None if the desired children could not be rendered, and `failure` says why, or if the UserStorage is being deleted."""
    plan: Plan
    failure: Failure | None
    now: datetime
    attempts: int = 1
    """1, plus the number of failed reconciles in a row before this one."""
    contests: tuple[Contest, ...] = ()
    """Children that another client keeps changing or deleting, reported from the pause before the next repair on."""

    @classmethod
    def of(cls, result: ApplyResult, failures: int, now: datetime) -> "Outcome":
        """Return the outcome of a reconcile, after `failures` failed reconciles in a row."""
        plan, failure = result.plan, None
        if (error := result.error or plan.spec_error) is not None:
            failure = Failure.of(error, failures + 1, now, non_blocking=result.non_blocking, action=result.action)
        return cls(result.snapshot, plan.desired, plan, failure, now, failures + 1, result.contests)

    def contest(self, *kinds: Kind) -> Contest | None:
        """Return the first contest over a child of one of these kinds, if there is any."""
        return next((contest for kind in kinds for contest in self.contests if contest.kind is kind), None)

    @property
    def blocking_failure(self) -> Failure | None:
        """The failure; None without any or if it is non-blocking, as such a failure must not hide the state of the pod."""
        return None if self.failure is None or self.failure.non_blocking else self.failure
