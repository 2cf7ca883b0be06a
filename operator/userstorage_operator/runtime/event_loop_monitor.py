"""How late the event loop is: what a busy or blocked loop does to everything else, measured on a timer of its own."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

_PERIOD = 0.5
_MINUTE = 60.0
_LATE_THRESHOLD = 1.0
"""Seconds from which on a beat counts as late."""


class EventLoopMonitor:
    """Beats twice a second. A loop that is blocked for good answers no probe either; this tells of one that crawls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beats: deque[tuple[float, float]] = deque(maxlen=int(_MINUTE / _PERIOD))
        """When each beat came, and by how much too late."""
        self._expected = self._last_on_time = clock()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._expected = self._clock() + _PERIOD
            await asyncio.sleep(_PERIOD)
            self.beat()

    def beat(self) -> None:
        """The timer has come."""
        now = self._clock()
        self._beats.append((now, now - self._expected))
        if now - self._expected < _LATE_THRESHOLD:
            self._last_on_time = now

    def lag(self) -> float:
        """Seconds: the largest delay within the last minute, that of a beat which is overdue included."""
        now = self._clock()
        return max([0.0, now - self._expected, *(late for at, late in self._beats if now - at < _MINUTE)])

    def late_for(self) -> float:
        """Seconds for which no beat has been on time; 0 while they are."""
        now = self._clock()
        return now - self._last_on_time if now - self._last_on_time > _PERIOD + _LATE_THRESHOLD else 0.0
