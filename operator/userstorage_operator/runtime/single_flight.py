"""At most one call at a time for each key; concurrent callers share its result (Go calls this singleflight)."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """The running calls by key, for one event loop. A result goes to the callers that wait for it and is not kept."""

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Task[T]] = {}

    async def run(self, key: K, call: Callable[[], Awaitable[T]]) -> T:
        """Wait for the running call for `key`, or start one, and return its result. Raises what the call raises.

        A cancelled caller does not cancel the call: other callers may be waiting for it.
        """
        return await asyncio.shield(self.start(key, call))

    def start(self, key: K, call: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
        """Return the task of the running call for `key`; start one if there is none. The caller need not await it."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fly(key, call))
            flight.add_done_callback(_mark_retrieved)
        return flight

    async def _fly(self, key: K, call: Callable[[], Awaitable[T]]) -> T:
        # Removed in the same step in which the call returns: a caller that comes later must not join a finished call.
        try:
            return await call()
        finally:
            del self._flights[key]


def _mark_retrieved(flight: "asyncio.Task[T]") -> None:
    """Keep asyncio from logging the error of a call that has no waiting caller left."""
    if not flight.cancelled():
        flight.exception()
