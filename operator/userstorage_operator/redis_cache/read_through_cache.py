"""Read-through cache: looks a value up in memory, then in Redis, then fetches it from its source. There is one fetch at a time
per key, in this process and across processes.
"""

import asyncio
import hashlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.readmodel.query import Aged
from userstorage_operator.redis_cache.codec import LARGEST, Codec, Entry, Reason, Rejected
from userstorage_operator.redis_cache.connection import RedisUnavailable
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.last_known_cache import LastKnownCache
from userstorage_operator.redis_cache.ports import CacheObserver, RedisConnection
from userstorage_operator.redis_cache.scripts import PUT, RELEASE

_FRESH = 1.0
"""Seconds for which a value is served from memory, without a call to Redis."""
_MAX_STORED = 1000
"""Number of values that are kept in memory, to be served if the source fails."""
_MAX_OPENED = 10_000
"""Number of decoded values that are cached, by their Redis key and bytes."""
_LOCK = 2.0
"""Seconds for which other processes wait for the process that fetches a value; then they fetch it themselves."""
_POLL = 0.05
_WRONG_TYPE = "WRONGTYPE"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A Redis key, and the conditions that its value must meet."""

    key: str
    uid: str | None = None
    """The uid that the object in the value must have; None if any uid will do."""
    version: int = 0
    """Minimum resourceVersion of the object in the value."""


@dataclass(frozen=True, slots=True)
class _Lookup:
    """What Redis has at a key: a valid entry, the SHA-1 of a value that was rejected, or neither."""

    entry: Entry | None = None
    rejected: str = ""


class ReadThroughCache:
    """The read-through cache of one process. If Redis fails, `get_or_fetch` takes longer, but does not fail for that reason."""

    def __init__(self, connection: RedisConnection, codec: Codec, observer: CacheObserver) -> None:
        self._connection = connection
        self._codec = codec
        self._open = lru_cache(_MAX_OPENED)(codec.open)
        self._observer = observer
        self._values: LastKnownCache[Wanted, Unstructured | None] = LastKnownCache(_FRESH, _MAX_STORED)

    async def get_or_fetch(
        self, wanted: Wanted, fetch: Callable[[], Awaitable[Entry]], ttl: float
    ) -> Aged[Unstructured | None]:
        """Return the wanted value from memory or Redis. If neither has it, return the result of `fetch`, and store that in
        Redis for about `ttl` seconds.

        If `fetch` raises a ClusterError, return the last value that this process knows, marked stale. Raises Unavailable if it
        knows none.
        """
        results: list[str] = []

        async def look_up() -> Aged[Unstructured | None]:
            return await self._look_up(wanted, fetch, ttl, results)

        try:
            response = await self._values.get(wanted, look_up)
        except ClusterError:
            self._observer.cache_asked("error")
            raise
        self._observer.cache_asked("stale" if response.stale else results[0] if results else "hit")
        return response

    async def get_many(self, wanted: Sequence[Wanted]) -> list[Entry | None]:
        """Read all wanted keys from Redis in one round trip. Return the entry of each key; None if it is missing or not valid.
        Raises RedisUnavailable.
        """
        return self._hits(await self._read(wanted))

    def validate(self, wanted: Sequence[Wanted], values: Sequence[bytes]) -> list[Entry | None]:
        """Return the entry in each of `values`, the bytes that Redis had at the wanted keys; None if an entry is missing or not
        valid.
        """
        return self._hits([self._validate(each, value) for each, value in zip(wanted, values, strict=True)])

    def _hits(self, lookups: Sequence[_Lookup]) -> list[Entry | None]:
        found = [each.entry for each in lookups]
        if hits := len(found) - found.count(None):
            self._observer.cache_asked("hit", hits)
        return found

    async def _look_up(
        self, wanted: Wanted, fetch: Callable[[], Awaitable[Entry]], ttl: float, results: list[str]
    ) -> Aged[Unstructured | None]:
        token = secrets.token_hex(8)
        try:
            [lookup] = await self._read([wanted])
            if lookup.entry is None and not await self._lock(wanted, token):
                lookup = await self._wait(wanted)
        except RedisUnavailable:
            lookup = _Lookup()
        if lookup.entry is not None:
            results.append("hit")
            return Aged(lookup.entry.value, max(0.0, time.time() - lookup.entry.time))
        results.append("miss")
        try:
            fetched = await fetch()
            await self._put(wanted, fetched, ttl, lookup.rejected)
        finally:
            await self._try("unlock", lambda redis: RELEASE(redis, [Keys.lock(wanted.key)], [token]))
        return Aged(fetched.value, 0.0)

    async def _read(self, wanted: Sequence[Wanted]) -> list[_Lookup]:
        async def read(redis: Redis) -> list[bytes | Exception]:
            pipeline = redis.pipeline(transaction=False)
            for each in wanted:
                pipeline.getrange(each.key, 0, LARGEST)
            answers: list[bytes | Exception] = await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception) and not _is_wrong_type(answer):
                    raise answer
            return answers

        answers = await self._connection.run("read", read)
        return [self._validate(each, answer) for each, answer in zip(wanted, answers, strict=True)]

    def _validate(self, wanted: Wanted, data: bytes | Exception) -> _Lookup:
        if data == b"":
            return _Lookup()
        if isinstance(data, Exception):
            self._observer.cache_rejected(Reason.GARBAGE)
            return _Lookup()
        try:
            entry = self._open(wanted.key, data, wanted.uid)
        except Rejected as rejected:
            reason = rejected.reason
        else:
            if entry.resource_version >= wanted.version:
                return _Lookup(entry)
            reason = Reason.OUTDATED
        self._observer.cache_rejected(reason)
        return _Lookup(rejected=hashlib.sha1(data, usedforsecurity=False).hexdigest())

    async def _lock(self, wanted: Wanted, token: str) -> bool:
        """Take the lock of a Redis key. Return False if another process holds the lock; that process then fetches the value."""
        taken = await self._connection.run(
            "lock", lambda redis: redis.set(Keys.lock(wanted.key), token, nx=True, px=int(_LOCK * 1000))
        )
        return taken is not None

    async def _wait(self, wanted: Wanted) -> _Lookup:
        """Wait until another process has stored the value in Redis, and return it. Return no entry if that takes longer than
        _LOCK. Raises RedisUnavailable.
        """
        deadline = time.monotonic() + _LOCK
        while time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
            [lookup] = await self._read([wanted])
            if lookup.entry is not None:
                return lookup
        return _Lookup()

    async def _put(self, wanted: Wanted, entry: Entry, ttl: float, rejected: str) -> None:
        """Store a fetched entry in Redis, unless Redis has a newer one. An entry with another uid than the wanted one is not
        stored: its object was recreated.
        """
        if wanted.uid is not None and entry.uid != wanted.uid:
            return
        try:
            data = self._codec.seal(wanted.key, entry)
        except Rejected:
            return
        ttl_ms = int(ttl * random.uniform(0.9, 1.1) * 1000)  # noqa: S311  # jitter
        await self._try("put", lambda redis: PUT(redis, [wanted.key], [data, ttl_ms, rejected]))

    async def _try(self, operation: str, call: Callable[[Redis], Awaitable[object]]) -> None:
        try:
            await self._connection.run(operation, call)
        except RedisUnavailable:
            return  # Connection counts and logs the failure


def _is_wrong_type(error: Exception) -> bool:
    """Whether the key holds a list, hash or other type instead of a value."""
    return isinstance(error, ResponseError) and str(error).startswith(_WRONG_TYPE)
