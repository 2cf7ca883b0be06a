"""Reads everything that the operator has in Redis, for `userstorage-operator cache`. Changes nothing, and uses only values with
a valid seal.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.redis_cache.codec import Codec, Rejected
from userstorage_operator.redis_cache.connection import RedisUnavailable
from userstorage_operator.redis_cache.head import Head
from userstorage_operator.redis_cache.index import Range, Row, parse
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.ports import RedisConnection
from userstorage_operator.redis_cache.read_through_cache import ReadThroughCache, Wanted
from userstorage_operator.redis_cache.scripts import READ, SCAN

_CHUNK = 500
_REFUSED = frozenset({"permission", "response"})


@dataclass(slots=True)
class Inspected:
    """The contents of Redis, as `inspect` has read them."""

    head: Head | None = None
    """The head of the mirror; None if Redis has no valid head."""
    head_age: float = 0.0
    """Seconds since the leader last wrote the head, by the clock of Redis; 0 if Redis has no head."""
    summaries: dict[Key, Unstructured | None] = field(default_factory=dict)
    """Key of each UserStorage in the index -> its summary; None if Redis has no valid summary."""
    summary_ages: list[float] = field(default_factory=list)
    """Seconds since each summary was written, by the clock of this machine."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Reason -> number of values that were rejected for it."""
    keys: Counter[str] = field(default_factory=Counter)
    """Kind of key -> number of Redis keys of that kind."""
    lookups: tuple[int, int] | None = None
    """Numbers of key lookups of the whole Redis server since its start: hits and misses. None if this Redis user may not read
    them.
    """

    def cache_asked(self, result: str, count: int = 1) -> None:
        """Ignore the lookups of summaries: only `cache_rejected` is counted here. Part of `ports.CacheObserver`."""

    def mirror_filled(self) -> None:
        """Ignore the event: an inspection fills no mirror. Part of `ports.CacheObserver`."""

    def cache_rejected(self, reason: str) -> None:
        """Count a value from Redis that was rejected for `reason`. Part of `ports.CacheObserver`."""
        self.rejected[reason] += 1


async def inspect(connection: RedisConnection, keys: Keys, codec: Codec) -> Inspected:
    """Return everything that the operator has in Redis. Reads it in many small calls, so that none keeps Redis busy for long.
    Raises RedisUnavailable.
    """
    found = Inspected()
    rows = await _rows(connection, keys, codec, found)
    cache, now = ReadThroughCache(connection, codec, found), time.time()
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        entries = await cache.get_many([Wanted(keys.summary(row.uid), row.uid, row.version) for row in chunk])
        for row, entry in zip(chunk, entries, strict=True):
            found.summaries[row.key] = entry.value if entry is not None else None
            if entry is not None:
                found.summary_ages.append(max(0.0, now - entry.time))
    await _count_keys(connection, keys, found)
    found.lookups = await _lookups(connection)
    return found


async def _rows(connection: RedisConnection, keys: Keys, codec: Codec, found: Inspected) -> list[Row]:
    """Return the row of each UserStorage in the index, and store the head in `found`. If the head or an entry is not valid,
    return the rows read so far, and store no head.
    """
    rows: list[Row] = []
    wanted = Range.of(Query(), codec)
    while True:
        sealed, age, _, members, _ = await _read(connection, keys, wanted)
        try:
            found.head = Head.open(sealed, keys, codec) if sealed and age else None
            found.head_age = float(age or 0)
            rows += (chunk := [parse(member, codec) for member in members])
        except Rejected as rejected:
            found.rejected[rejected.reason] += 1
            found.head = None
            return rows
        if len(chunk) < _CHUNK:
            return rows
        wanted = wanted.after(chunk[-1])


async def _read(connection: RedisConnection, keys: Keys, wanted: Range) -> Any:
    arguments = [wanted.first, wanted.end, _CHUNK, ""]
    return await connection.run("index", lambda redis: READ(redis, [keys.head, keys.index], arguments))


async def _count_keys(connection: RedisConnection, keys: Keys, found: Inspected) -> None:
    """Count the Redis keys by kind. SCAN may return a key twice; such a key is counted once."""
    names: set[bytes] = set()
    cursor = b"0"
    while True:
        cursor, some = await _scan(connection, keys, cursor)
        names.update(some)
        if cursor == b"0":
            break
    for name in names:
        kind = name.removeprefix(keys.prefix.encode()).split(b":")[0]
        found.keys["lock" if name.endswith(b":lock") else kind.decode(errors="replace")] += 1


async def _scan(connection: RedisConnection, keys: Keys, cursor: bytes) -> Any:
    return await connection.run("scan", lambda redis: SCAN(redis, [keys.head], [cursor, keys.pattern, 1000]))


async def _lookups(connection: RedisConnection) -> tuple[int, int] | None:
    async def ask(redis: Redis) -> Any:
        return await redis.info("stats")

    try:
        stats = await connection.run("info", ask)
    except RedisUnavailable as error:
        if error.kind in _REFUSED:
            return None
        raise
    nodes = [stats] if "keyspace_hits" in stats else list(stats.values())  # a Redis cluster answers per node
    return sum(node["keyspace_hits"] for node in nodes), sum(node["keyspace_misses"] for node in nodes)
