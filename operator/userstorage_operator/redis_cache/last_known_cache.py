"""A cache that serves the last known value of a key, marked stale, if fetching a new value fails."""

import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from cachetools import LRUCache

from userstorage_operator.api.errors import ClusterError, Unavailable
from userstorage_operator.readmodel.query import Aged
from userstorage_operator.runtime.single_flight import SingleFlight

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Stored(Generic[T]):
    response: Aged[T]
    since: float

    def aged(self, *, stale: bool = False) -> Aged[T]:
        return Aged(self.response.value, self.response.age + time.monotonic() - self.since, stale)


class LastKnownCache(Generic[K, T]):
    """Keeps the last known value of each key, for one event loop. docs/decisions/0013 compares this cache with
    `readapi.review_cache`.
    """

    def __init__(self, fresh: float, size: int) -> None:
        """Serve each value for `fresh` seconds without a fetch, and keep the `size` most recently used values."""
        self._fresh = fresh
        self._stored: LRUCache[K, _Stored[T]] = LRUCache(size)
        self._flights: SingleFlight[K, Aged[T]] = SingleFlight()

    def fresh(self, key: K) -> Aged[T] | None:
        """Return the value of `key`; None if it is unknown or no longer fresh."""
        stored = self._stored.get(key)
        return stored.aged() if stored is not None and time.monotonic() - stored.since < self._fresh else None

    async def get(self, key: K, fetch: Callable[[], Awaitable[Aged[T]]]) -> Aged[T]:
        """Return the value of `key` if it is fresh, else the result of `fetch`. If `fetch` raises a ClusterError, return the
        last known value, marked stale.

        Concurrent callers share one fetch. Raises Unavailable if `fetch` fails and no value is known.
        """
        if (response := self.fresh(key)) is not None:
            return response
        try:
            return await self._flights.run(key, partial(self._fetch, key, fetch))
        except ClusterError as error:
            if (stored := self._stored.get(key)) is not None:
                return stored.aged(stale=True)
            raise Unavailable(error.status, error.message) from error

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[Aged[T]]]) -> Aged[T]:
        response = await fetch()
        self._stored[key] = _Stored(response, time.monotonic())
        return response
