"""Delays of 1, 3, 9, 27, then always 60 seconds: after failed reconciles, and between pod creations or repairs of a child."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

_LONGEST = 60.0
_RESET_AFTER = timedelta(seconds=120)
FORGOTTEN_AFTER = _RESET_AFTER + timedelta(seconds=_LONGEST)
"""Time after a try by which its pause is over, and the next one would start a new count."""


@dataclass(frozen=True, slots=True)
class BackoffState:
    """How often a pod was created, or a child repaired, in quick succession, and when the next try is allowed."""

    count: int = 0
    not_before: datetime | None = None
    last_loss: str | None = None
    """Why the result of the last try was lost (of a pod: how it was lost); None if that is unknown."""
    goal: int | None = None
    """Digest of what the last try was for; None for a pod."""

    def next(self, now: datetime) -> "BackoffState":
        """Return the state after a try at `now`. The count starts over if `not_before` is two minutes or more ago."""
        quick = self.not_before is not None and now - self.not_before < _RESET_AFTER
        count = self.count + 1 if quick else 1
        return BackoffState(count, now + timedelta(seconds=delay(count)), goal=self.goal)

    def lost(self, reason: str) -> "BackoffState":
        """Return this state with `reason` as `last_loss`: why the pod that the last try created was lost."""
        return replace(self, last_loss=reason)


def delay(attempts: int) -> float:
    """Return the seconds to wait after the `attempts`-th try in a row.

    This gives five tries in the first minute, and one in each minute after it.
    """
    return min(_LONGEST, 3.0 ** (min(attempts, 5) - 1))


def blocked_until(state: BackoffState, now: datetime) -> datetime | None:
    """Return when the next try is allowed; None if it is allowed now.

    If `not_before` is further away than the delay, the clock was set back in the meantime, and `not_before` is ignored.
    """
    if state.not_before is None or not now < state.not_before <= now + timedelta(seconds=delay(state.count)):
        return None
    return state.not_before
