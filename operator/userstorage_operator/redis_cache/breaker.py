"""A circuit breaker: while a server does not serve, nobody waits for it but one probe at growing intervals.

Our own, since `purgatory`, `aiobreaker` and `pybreaker` have one fixed pause between probes and no clock that a test can
set; purgatory, the best kept of them, lets every call through while it probes, and each would cost a time-out.
"""

from collections.abc import Callable
from enum import StrEnum

FAILURES = 5
"""In a row, until it opens."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
JITTER = 0.2
"""The share by which a pause is longer or shorter, so that the processes do not probe together."""


class State(StrEnum):
    """Whether calls go through: all, none, or one that tries."""

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"


class Breaker:
    """Counts failures in a row. `now` gives seconds of a monotonic clock, `spread` a number from -1 to 1.

    The outcome of an admitted call is told with the number it was admitted with: a call that began before the last change
    of state says nothing about this one.
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
        """As of the last call; an open one whose pause is over stays open until somebody calls."""
        return self._state

    def admit(self) -> int | None:
        """A number for the outcome of the call, None where the call must not be made."""
        if self._state is State.OPEN and self._now() >= self._probe_at:
            self._become(State.HALF_OPEN)
            return self._era
        return self._era if self._state is State.CLOSED else None

    def succeeded(self, era: int) -> None:
        """The server serves."""
        if era != self._era:
            return
        self._failures = 0
        if self._state is State.HALF_OPEN:
            self._pause = FIRST_PAUSE
            self._become(State.CLOSED)

    def failed(self, era: int) -> None:
        """The server does not serve."""
        if era != self._era:
            return
        self._failures += 1
        if self._state is State.HALF_OPEN or self._failures >= FAILURES:
            self._probe_at = self._now() + self._pause * (1 + JITTER * self._spread())
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self._become(State.OPEN)

    def abandoned(self, era: int) -> None:
        """The call ended without an answer and without a failure of the server: the next one probes in its place."""
        if era == self._era and self._state is State.HALF_OPEN:
            self._become(State.OPEN)

    def _become(self, state: State) -> None:
        self._state = state
        self._failures = 0
        self._era += 1
