"""A cache that serves the last known value, marked stale, if its source fails."""

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
    """The cache, for one event loop. docs/decisions/0013 compares it with `readapi.review_cache`."""

    def __init__(self, fresh: float, size: int) -> None:
        """Serve a value for `fresh` seconds without a fetch; keep the `size` most recently used values."""
        self._fresh = fresh
        self._stored: LRUCache[K, _Stored[T]] = LRUCache(size)
        self._flights: SingleFlight[K, Aged[T]] = SingleFlight()

    def fresh(self, key: K) -> Aged[T] | None:
        """Return the value, or None if it is unknown or no longer fresh."""
        stored = self._stored.get(key)
        return stored.aged() if stored is not None and time.monotonic() - stored.since < self._fresh else None

    async def get(self, key: K, fetch: Callable[[], Awaitable[Aged[T]]]) -> Aged[T]:
        """Return the value. If it is not fresh, call `fetch`; if that raises a ClusterError, return the last known value,
        marked stale.

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
