"""The growing pause between tries: 1, 3, 9, 27, then every 60 seconds."""

from datetime import datetime, timedelta

from userstorage_operator.observed.snapshot import BackoffState

_LONGEST = 60.0
_FORGET_AFTER = timedelta(seconds=120)


def delay(attempts: int) -> float:
    """Seconds to wait after the `attempts`-th failure in a row. Five tries in the first minute, one in each after."""
    return min(_LONGEST, 3.0 ** (min(attempts, 5) - 1))


def blocked_until(starts: BackoffState, now: datetime) -> datetime | None:
    """When the next pod may be made, or the next repair; None where it may be now. A moment that is further off than the
    pause was long is one of a clock that has been set back since: nobody waits for that.
    """
    if starts.not_before is None or not now < starts.not_before <= now + timedelta(seconds=delay(starts.count)):
        return None
    return starts.not_before


def next_state(starts: BackoffState, now: datetime) -> BackoffState:
    """The count after a pod was made `now`. A pod that lived two minutes past its pause starts the count anew."""
    quick = starts.not_before is not None and now - starts.not_before < _FORGET_AFTER
    count = starts.count + 1 if quick else 1
    return BackoffState(count, now + timedelta(seconds=delay(count)))
