"""Answers that are asked for once at a time, kept for a moment, and remembered for the day when nobody answers."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from userstorage_operator.api.errors import ClusterError, Unavailable
from userstorage_operator.readmodel.query import Aged

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    told: Aged[T]
    at: float

    def aged(self, *, stale: bool = False) -> Aged[T]:
        return Aged(self.told.value, self.told.age + time.monotonic() - self.at, stale)


class SingleFlightCache(Generic[K, T]):
    """For one event loop."""

    def __init__(self, fresh: float, most: int) -> None:
        """An answer serves for `fresh` seconds; `most` are remembered, those that were asked for last."""
        self._fresh = fresh
        self._most = most
        self._kept: OrderedDict[K, _Kept[T]] = OrderedDict()
        self._flights: dict[K, asyncio.Task[Aged[T]]] = {}

    def fresh(self, key: K) -> Aged[T] | None:
        """The answer, where it is not older than it may be."""
        kept = self._kept.get(key)
        return kept.aged() if kept is not None and time.monotonic() - kept.at < self._fresh else None

    async def get(self, key: K, ask: Callable[[], Awaitable[Aged[T]]]) -> Aged[T]:
        """The answer; the last one, stale, where `ask` fails. Raises Unavailable where there is none either."""
        if (told := self.fresh(key)) is not None:
            self._kept.move_to_end(key)
            return told
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fly(key, ask))
            flight.add_done_callback(_retrieved)
        try:
            return await asyncio.shield(flight)  # the others wait on where one of them is cancelled
        except ClusterError as error:
            if (kept := self._kept.get(key)) is not None:
                return kept.aged(stale=True)
            raise Unavailable(error.status, error.message) from error

    async def _fly(self, key: K, ask: Callable[[], Awaitable[Aged[T]]]) -> Aged[T]:
        try:
            told = await ask()
        finally:
            del self._flights[key]
        self._kept[key] = _Kept(told, time.monotonic())
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return told


def _retrieved(flight: "asyncio.Task[Aged[T]]") -> None:
    """An error that nobody waits for any more is no news."""
    if not flight.cancelled():
        flight.exception()
