"""The lag of the event loop, measured by a timer: a busy or blocked loop delays every other task by as much."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

_PERIOD = 0.5
_MINUTE = 60.0
_LATE_THRESHOLD = 1.0
"""Seconds of delay from which on a tick counts as late."""


class EventLoopMonitor:
    """Ticks twice a second. A loop that is blocked for good answers no probe anyway; this detects one that is merely slow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticks: deque[tuple[float, float]] = deque(maxlen=int(_MINUTE / _PERIOD))
        """When each tick came, and the delay in seconds."""
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
        """Return the largest delay in seconds within the last minute, including that of an overdue tick."""
        now = self._clock()
        return max([0.0, now - self._expected, *(late for at, late in self._ticks if now - at < _MINUTE)])

    def late_for(self) -> float:
        """Return the seconds for which no tick has been on time; 0 if the last one was."""
        now = self._clock()
        return now - self._last_on_time if now - self._last_on_time > _PERIOD + _LATE_THRESHOLD else 0.0
