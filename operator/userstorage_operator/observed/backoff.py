"""Backoff between attempts: 1, 3, 9, 27, then 60 seconds."""

from datetime import datetime, timedelta

from userstorage_operator.observed.snapshot import BackoffState

_LONGEST = 60.0
_FORGET_AFTER = timedelta(seconds=120)


def delay(attempts: int) -> float:
    """Return the seconds to wait after the `attempts`-th failure in a row: five in the first minute, then one a minute."""
    return min(_LONGEST, 3.0 ** (min(attempts, 5) - 1))


def blocked_until(state: BackoffState, now: datetime) -> datetime | None:
    """Return when the next pod may be created, or the next repair done; None if that is now.

    A time further away than the delay itself means that the clock has been set back since; it is ignored.
    """
    if state.not_before is None or not now < state.not_before <= now + timedelta(seconds=delay(state.count)):
        return None
    return state.not_before


def next_state(state: BackoffState, now: datetime) -> BackoffState:
    """Return the state after an attempt at `now`. The count restarts at 1 if the last delay ended two minutes ago."""
    in_succession = state.not_before is not None and now - state.not_before < _FORGET_AFTER
    count = state.count + 1 if in_succession else 1
    return BackoffState(count, now + timedelta(seconds=delay(count)))
