"""Caches reviews of callers (TokenReview, SubjectAccessReview) for a few seconds: even a caller with a thousand requests per
second costs the API server only one review in a few seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from cachetools import TLRUCache, TTLCache

from userstorage_operator.api.errors import Unavailable
from userstorage_operator.readapi.review_lane import PAUSE, NotAsked, ReviewLane, TooMany
from userstorage_operator.runtime.single_flight import SingleFlight

V = TypeVar("V")

YES = 10.0
"""Seconds for which a positive review is fresh."""
NO = 3.0
"""Seconds for which a negative review is fresh: rights that were just granted should work soon."""
GRACE = 60.0
"""Seconds for which an expired positive review is still used while the API server is unavailable (docs/security.md)."""
_SIZE = 4096
"""Maximum number of positive reviews that are kept, and as many negative ones: invented tokens must not displace known callers.
"""

_CALLERS = 192
"""Maximum number of callers that wait for a first review at the same time; many may wait for the same review. Each has a
connection to the HTTP port, where some connections must be left for probes.
"""


@dataclass(frozen=True, slots=True)
class _Review(Generic[V]):
    value: V
    since: float
    """When the review was requested, not when the API server answered."""


class ReviewCache(Generic[V]):
    """Keeps the latest reviews (TokenReview, SubjectAccessReview). A positive review has a truthy value and is fresh for longer
    than a negative one. Concurrent callers share one review.

    A positive review that is still in use is renewed before it expires, so that no caller waits for the renewal. Renewals have
    a ReviewLane of their own.

    docs/decisions/0013 compares this cache with `redis_cache.last_known_cache`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, grace: float = GRACE) -> None:
        """`grace` is the number of seconds that replaces GRACE."""
        self._clock = clock

        def expiry(_: Hashable, review: _Review[V], __: float) -> float:
            return review.since + (YES + grace if review.value else NO)

        self._positive: TLRUCache[Hashable, _Review[V]] = TLRUCache(_SIZE, expiry, clock)
        self._negative: TLRUCache[Hashable, _Review[V]] = TLRUCache(_SIZE, expiry, clock)
        self._failed: TTLCache[Hashable, Unavailable] = TTLCache(_SIZE, PAUSE, clock)
        """Key of each review that failed within the last second -> its error."""
        self._flights: SingleFlight[Hashable, V] = SingleFlight()
        self._callers = 0
        """Number of callers that wait for a first review."""
        self._known, self._others = ReviewLane(clock), ReviewLane(clock)

    def knows(self, key: Hashable) -> bool:
        """Whether there is a positive review for `key`, fresh or within its grace period."""
        return key in self._positive

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[V]], source: Hashable = None) -> V:
        """Return the value of the review for `key`, from memory or from `ask()`, which requests the review. Raises the
        ClusterError of a review that failed, or NotAsked.

        `source` is where the request comes from, such as the address of the caller (`ReviewLane.run`).
        """
        review = self._positive.get(key) or self._negative.get(key)
        if review is None:
            if (failure := self._failed.get(key)) is not None:
                raise NotAsked(failure.status, failure.message, retry_after=failure.retry_after)
            return await self._first(key, ask, source)
        age = self._clock() - review.since
        if age < (YES if review.value else NO):
            if review.value and age > YES / 2:
                self._renew(key, ask)
            return review.value
        if key in self._failed or self._known.failing:
            # Waiting for a review that is likely to fail as well helps no caller.
            self._renew(key, ask)
            return review.value
        try:
            return await asyncio.shield(self._start(self._known, key, ask, key))
        except Unavailable:
            return review.value

    async def _first(self, key: Hashable, ask: Callable[[], Awaitable[V]], source: Hashable) -> V:
        if self._callers >= _CALLERS:
            raise TooMany
        self._callers += 1
        try:
            return await asyncio.shield(self._start(self._others, key, ask, source))
        finally:
            self._callers -= 1

    def _renew(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> None:
        """Request the review for `key` again in the background, unless this review or the last few renewals have just failed."""
        if key not in self._failed and not self._known.pausing:
            self._start(self._known, key, ask, key)

    def _start(self, lane: ReviewLane, key: Hashable, ask: Callable[[], Awaitable[V]], source: Hashable) -> "asyncio.Future[V]":
        return self._flights.start(key, partial(self._ask, lane, key, ask, source))

    async def _ask(self, lane: ReviewLane, key: Hashable, ask: Callable[[], Awaitable[V]], source: Hashable) -> V:
        requested: list[float] = []

        async def ask_now() -> V:
            requested.append(self._clock())
            return await ask()

        try:
            value = await lane.run(source, ask_now)
        except NotAsked:
            raise
        except Unavailable as error:
            self._failed[key] = error
            raise
        current, other = (self._positive, self._negative) if value else (self._negative, self._positive)
        current[key] = _Review(value, requested[0])
        other.pop(key, None)
        self._failed.pop(key, None)
        return value
