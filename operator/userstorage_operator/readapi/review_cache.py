"""Caches the API server's reviews for seconds: a thousand requests per second of one caller cost it one review in a few
seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from cachetools import TLRUCache

from userstorage_operator.api.errors import Unavailable
from userstorage_operator.runtime.single_flight import SingleFlight

V = TypeVar("V")

YES = 10.0
"""Seconds for which a positive review is fresh."""
NO = 3.0
"""Seconds for which a negative review is fresh: rights that were just granted should work soon."""
GRACE = 60.0
"""Seconds for which an expired positive review is still used while the API server is unavailable (docs/security.md)."""
_TIMEOUT = 3.0
"""Seconds to wait for the API server."""
_PAUSE = 1.0
"""Seconds after a failure in which no new review is requested."""
_CONCURRENCY = 8
"""Reviews in flight at the same time: a flood of invented tokens must not become a flood of reviews."""
_SIZE = 4096


@dataclass(frozen=True, slots=True)
class _Review(Generic[V]):
    value: V
    since: float
    """When it was requested, not when it was answered."""


class ReviewCache(Generic[V]):
    """Keeps the latest reviews, positive (truthy) values longer than negative ones. Concurrent callers share one review. A
    positive review that is still in use is renewed before it expires, so that no caller waits for it.

    docs/decisions/0013 compares it with `redis_cache.last_known_cache`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, grace: float = GRACE) -> None:
        """`grace` replaces GRACE."""
        self._clock = clock

        def expiry(_: Hashable, review: _Review[V], __: float) -> float:
            return review.since + (YES + grace if review.value else NO)

        self._reviews: TLRUCache[Hashable, _Review[V]] = TLRUCache(_SIZE, expiry, clock)
        self._flights: SingleFlight[Hashable, V] = SingleFlight()
        self._slots = asyncio.Semaphore(_CONCURRENCY)
        self._failure: Unavailable | None = None
        self._failed_at = 0.0

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> V:
        """Return the value, from memory or from `ask()`. Raises the ClusterError of a review that failed."""
        review = self._reviews.get(key)
        age = self._clock() - review.since if review is not None else 0.0
        if review is not None and age < (YES if review.value else NO):
            if review.value and age > YES / 2 and not self._pausing():
                self._start(key, ask)
            return review.value
        if self._failure is not None and (review is not None or self._pausing()):
            # Do not let the caller wait for a review that is likely to fail as well.
            if not self._pausing():
                self._start(key, ask)
            if review is not None:
                return review.value
            raise self._failure
        try:
            return await asyncio.shield(self._start(key, ask))
        except Unavailable:
            if review is None:
                raise
            return review.value

    def _pausing(self) -> bool:
        """Whether a review failed less than _PAUSE seconds ago."""
        return self._failure is not None and self._clock() - self._failed_at < _PAUSE

    def _start(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> "asyncio.Task[V]":
        return self._flights.start(key, partial(self._ask, key, ask))

    async def _ask(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> V:
        since = self._clock()
        try:
            async with asyncio.timeout(_TIMEOUT), self._slots:
                value = await ask()
        except TimeoutError:
            failure = Unavailable(0, f"no answer from the API server within {_TIMEOUT:g} s")
            self._failed(failure)
            raise failure from None
        except Unavailable as error:
            self._failed(error)
            raise
        self._failure = None
        self._reviews[key] = _Review(value, since)
        return value

    def _failed(self, error: Unavailable) -> None:
        self._failure, self._failed_at = error, self._clock()
