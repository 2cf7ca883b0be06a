"""Measures how late the asyncio event loop runs a timer. A busy or blocked event loop delays every other task by the same time."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

_PERIOD = 0.5
_MINUTE = 60.0
_LATE_THRESHOLD = 1.0
"""Seconds of delay from which on a tick counts as late."""


class EventLoopMonitor:
    """Starts a timer twice a second and measures how late the event loop runs it; each run is a tick. This detects a slow event
    loop. A blocked one is detected by the kubelet, whose probe gets no answer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticks: deque[tuple[float, float]] = deque(maxlen=int(_MINUTE / _PERIOD))
        """The ticks of the last minute: the time of each, and its delay in seconds."""
        self._expected = self._last_on_time = clock()

    async def run(self) -> None:
        """Start a timer every half second, and record each tick, until cancelled."""
        while True:
            self._expected = self._clock() + _PERIOD
            await asyncio.sleep(_PERIOD)
            self.tick()

    def tick(self) -> None:
        """Record that the current timer has run now, and how late it is."""
        now = self._clock()
        self._ticks.append((now, now - self._expected))
        if now - self._expected < _LATE_THRESHOLD:
            self._last_on_time = now

    def lag(self) -> float:
        """Return the largest delay of a tick in the last minute, in seconds. A tick that is due but has not run yet counts too."""
        now = self._clock()
        return max([0.0, now - self._expected, *(late for at, late in self._ticks if now - at < _MINUTE)])

    def late_for(self) -> float:
        """Return the seconds since the last tick that was on time; 0 if the tick after that one is not late yet."""
        now = self._clock()
        return now - self._last_on_time if now - self._last_on_time > _PERIOD + _LATE_THRESHOLD else 0.0
