"""Runs at most one call at a time for each key; concurrent callers share its result (Go calls this singleflight)."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from userstorage_operator.runtime.detached import detached

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Runs at most one call at a time for each key, on one event loop. The result goes to all callers that wait for it, and is
    not kept.
    """

    def __init__(self) -> None:
        self._flights: dict[K, asyncio.Future[T]] = {}

    async def run(self, key: K, call: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the running call for `key`; start `call` if none is running. Raises what the running call
        raises.

        A cancelled caller does not cancel the running call: other callers may be waiting for it.
        """
        return await asyncio.shield(self.start(key, call))

    def start(self, key: K, call: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Return the future of the running call for `key`; start `call` if none is running. The caller need not await it."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = detached(partial(self._fly, key, call))
        return flight

    async def _fly(self, key: K, call: Callable[[], Awaitable[T]]) -> T:
        # Removed in the same step in which the call returns: a caller that comes later must not join a finished call.
        try:
            return await call()
        finally:
            del self._flights[key]
