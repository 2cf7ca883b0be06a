"""What a pass came to: the facts from which the status is told."""

from dataclasses import dataclass
from datetime import datetime

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.planner import Plan


@dataclass(frozen=True, slots=True)
class Failure:
    """An error and how often it has come in a row."""

    error: OperatorError
    attempts: int
    next_retry: datetime | None
    non_blocking: bool = False
    """Of a step that `plan.is_optional`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The world after the pass's own writes, what was wanted, what was planned, and what went wrong."""

    snapshot: Snapshot
    desired: Desired | None
    """None where it could not be worked out (see `failure`) or is not needed (deletion)."""
    plan: Plan
    failure: Failure | None
    now: datetime

    @property
    def blocking_failure(self) -> Failure | None:
        """The failure, where it may be what keeps the user from the files. A soft one must not hide the pod's own state."""
        return None if self.failure is None or self.failure.non_blocking else self.failure
