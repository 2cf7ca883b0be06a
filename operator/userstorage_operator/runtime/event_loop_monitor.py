"""Measures the lag of the event loop with a timer. A busy or blocked loop delays every other task by the same time."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

_PERIOD = 0.5
_MINUTE = 60.0
_LATE_THRESHOLD = 1.0
"""A tick that is this many seconds late, or more, counts as late."""


class EventLoopMonitor:
    """Measures by two ticks a second how late the event loop runs its timers. It detects a slow loop; a blocked one answers no
    probe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticks: deque[tuple[float, float]] = deque(maxlen=int(_MINUTE / _PERIOD))
        """The time of each tick, and its delay in seconds."""
        self._expected = self._last_on_time = clock()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            self._expected = self._clock() + _PERIOD
            await asyncio.sleep(_PERIOD)
            self.tick()

    def tick(self) -> None:
        """Record a tick."""
        now = self._clock()
        self._ticks.append((now, now - self._expected))
        if now - self._expected < _LATE_THRESHOLD:
            self._last_on_time = now

    def lag(self) -> float:
        """Return the largest delay of a tick in the last minute, in seconds. A tick that is overdue at the moment counts too."""
        now = self._clock()
        return max([0.0, now - self._expected, *(late for at, late in self._ticks if now - at < _MINUTE)])

    def late_for(self) -> float:
        """Return the seconds since the last tick that was on time; 0 if no tick has been late since."""
        now = self._clock()
        return now - self._last_on_time if now - self._last_on_time > _PERIOD + _LATE_THRESHOLD else 0.0
