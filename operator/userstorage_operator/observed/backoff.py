"""Growing delays between tries: 1, 3, 9, 27, then every 60 seconds."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

_LONGEST = 60.0
_RESET_AFTER = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class BackoffState:
    """How often an action was tried in quick succession, and when the next try may be."""

    count: int = 0
    not_before: datetime | None = None
    last_loss: str | None = None
    """Why the result of the last try did not last (of a pod: how it was lost), if that is known."""
    goal: int | None = None
    """What the last try was for, as a digest; None for a pod."""

    def next(self, now: datetime) -> "BackoffState":
        """Return the state after a try at `now`. A result that lasted two minutes past its delay resets the count."""
        quick = self.not_before is not None and now - self.not_before < _RESET_AFTER
        count = self.count + 1 if quick else 1
        return BackoffState(count, now + timedelta(seconds=delay(count)), goal=self.goal)

    def lost(self, reason: str) -> "BackoffState":
        """Return the state after the result of the last try was lost."""
        return replace(self, last_loss=reason)


def delay(attempts: int) -> float:
    """Return the seconds to wait after the `attempts`-th failure in a row: five tries in the first minute, one in each after."""
    return min(_LONGEST, 3.0 ** (min(attempts, 5) - 1))


def blocked_until(state: BackoffState, now: datetime) -> datetime | None:
    """Return when the next try may be; None if it may be now.

    A moment that is further off than the delay is from before the clock was set back, and is ignored.
    """
    if state.not_before is None or not now < state.not_before <= now + timedelta(seconds=delay(state.count)):
        return None
    return state.not_before
