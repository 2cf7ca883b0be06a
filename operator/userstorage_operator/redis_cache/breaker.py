"""A circuit breaker: while a server fails, it refuses all calls but one probe at a time, at growing intervals.

We wrote our own because `purgatory`, `aiobreaker` and `pybreaker` have one fixed pause between probes and no clock that a test
can set. purgatory, the best maintained of them, also lets every call through while it probes; each call would cost a timeout.
"""

from collections.abc import Callable
from enum import StrEnum

FAILURES = 5
"""Consecutive failures after which the breaker opens."""
FIRST_PAUSE = 0.5
"""Seconds between the opening and the first probe; doubled by each failed probe."""
LONGEST_PAUSE = 15.0
JITTER = 0.2
"""Fraction by which a pause is randomly longer or shorter, so that the processes do not probe at the same time."""


class State(StrEnum):
    """Which calls go through: all of them (closed), one probe (half open) or none (open)."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """Counts consecutive failures of calls to a server, and decides which calls may be made. `now` returns the seconds of a
    monotonic clock, `spread` a random number from -1 to 1.

    `admit` returns the number of the current era; the caller reports the outcome of the call with this number. Every change of
    state starts a new era. The outcome of a call from an earlier era is ignored.
    """

    def __init__(self, now: Callable[[], float], spread: Callable[[], float]) -> None:
        self._now = now
        self._spread = spread
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._probe_at = 0.0
        self._era = 0
        self._state = State.CLOSED

    @property
    def state(self) -> State:
        """The state after the last call of a method. An open breaker becomes half open in `admit`, not by itself when its pause
        ends.
        """
        return self._state

    def admit(self) -> int | None:
        """Return the number of the current era if the call may be made, else None. The outcome of the call is reported with
        this number.
        """
        if self._state is State.OPEN and self._now() >= self._probe_at:
            self._change_to(State.HALF_OPEN)
            return self._era
        return self._era if self._state is State.CLOSED else None

    def succeeded(self, era: int) -> None:
        """Record that a call that was admitted in `era` has succeeded."""
        if era != self._era:
            return
        self._failures = 0
        if self._state is State.HALF_OPEN:
            self._pause = FIRST_PAUSE
            self._change_to(State.CLOSED)

    def failed(self, era: int) -> None:
        """Record that a call that was admitted in `era` has failed because the server does not serve."""
        if era != self._era:
            return
        self._failures += 1
        if self._state is State.HALF_OPEN or self._failures >= FAILURES:
            self._probe_at = self._now() + self._pause * (1 + JITTER * self._spread())
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self._change_to(State.OPEN)

    def abandoned(self, era: int) -> None:
        """Record that a call that was admitted in `era` was cancelled or ended with an unrelated error. If it was the probe,
        the next call becomes the probe.
        """
        if era == self._era and self._state is State.HALF_OPEN:
            self._change_to(State.OPEN)

    def _change_to(self, state: State) -> None:
        self._state = state
        self._failures = 0
        self._era += 1
