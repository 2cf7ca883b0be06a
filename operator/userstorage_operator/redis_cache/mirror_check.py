"""Checks whether a replica that does not lead could answer the read API from Redis alone."""

import math
import time
from collections.abc import Callable

from userstorage_operator.readmodel.query import Query
from userstorage_operator.redis_cache.connection import RedisUnavailable
from userstorage_operator.redis_cache.mirror_reader import IndexStale, MirrorReader
from userstorage_operator.runtime.single_flight import SingleFlight

_FRESH = 2.0
"""Seconds for which the result of a check is used again: every pod may request `/ready`."""


class MirrorCheck:
    """Checks that the mirror can be read from Redis, by reading one row. The mirror may be of any age, since every response of
    the read API shows its age.
    """

    def __init__(self, mirror: MirrorReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._mirror = mirror
        self._clock = clock
        self._flights: SingleFlight[None, bool] = SingleFlight()
        self._result = False
        self._checked_at = -math.inf

    async def passed(self) -> bool:
        """Whether the mirror can be read, according to a check that is at most two seconds old."""
        if self._clock() - self._checked_at < _FRESH:
            return self._result
        return await self._flights.run(None, self._check)

    async def _check(self) -> bool:
        try:
            await self._mirror.page(Query(limit=1), math.inf)
            self._result = True
        except (RedisUnavailable, IndexStale):
            self._result = False
        self._checked_at = self._clock()
        return self._result
