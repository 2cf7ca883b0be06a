"""Bounds the lines that the gate logs: the same thing once in a period, and not more than so many things."""

from collections.abc import Hashable


class Once:
    """Says whether a thing happens for the first time in the current period."""

    def __init__(self, period: float, limit: int) -> None:
        """`period` is in seconds. After `limit` different things in one period, all further ones count as known."""
        self._period = period
        self._limit = limit
        self._known: set[Hashable] = set()
        self._ends = 0.0

    def is_first(self, thing: Hashable, now: float) -> bool:
        """Whether the thing has not happened yet in the current period. `now` is from a monotonic clock."""
        if now >= self._ends:
            self._known.clear()
            self._ends = now + self._period
        if thing in self._known or len(self._known) >= self._limit:
            return False
        self._known.add(thing)
        return True
