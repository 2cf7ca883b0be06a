"""Reads the index that the leader's mirror writes to Redis."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.redis_cache.codec import Codec, Reason, Rejected
from userstorage_operator.redis_cache.head import Head, Scopes
from userstorage_operator.redis_cache.index import Range, Row, parse
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.ports import CacheObserver, RedisConnection
from userstorage_operator.redis_cache.scripts import READ

FRESH = 3.0
"""Maximum age in seconds of the head of a mirror that counts as fresh. The leader writes the head every second."""
_CHUNK = 500
"""Number of rows that are read at a time if the query filters by user id, and by phase or readiness."""
_MAX_PARSED = 10_000
"""Number of parsed rows that are cached, by the bytes of their entries in the index."""


class IndexStale(Exception):
    """The index in Redis cannot be used: it is missing, incomplete, for other namespaces, or too old."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of the index, ordered by namespace and name, and their maximum age in seconds."""

    rows: tuple[Row, ...]
    age: float
    more: bool
    """Whether more rows for the query follow."""
    summaries: tuple[bytes, ...] | None = None
    """The sealed summary of each row; empty bytes if Redis has no summary for the row. None if no summaries were read."""


class MirrorReader:
    """Reads the index in Redis. Every method raises RedisUnavailable if Redis fails, and IndexStale if the index cannot be
    used.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, codec: Codec, scopes: Scopes, observer: CacheObserver) -> None:
        """`scopes` are the namespaces that this process serves; the index of a leader with other scopes is not used."""
        self._connection = connection
        self._keys = keys
        self._codec = codec
        self._scopes = scopes
        self._observer = observer
        self._parse = lru_cache(_MAX_PARSED)(partial(parse, codec=codec))

    async def one(self, key: Key, oldest: float = FRESH) -> Found:
        """Return the row of one UserStorage; no row if the UserStorage does not exist. `oldest` is the maximum age of the head
        in seconds.
        """
        rows, summaries, age = await self._read(Range.of_one(key), 1, oldest, with_summaries=True)
        return Found(tuple(rows), age, more=False, summaries=tuple(summaries))

    async def page(self, query: Query, oldest: float = FRESH) -> Found:
        """Return the rows of the page that the query asks for. `oldest` is the maximum age of the head in seconds."""
        found: list[Row] = []
        span, needed = Range.of(query, self._codec), query.limit + 1
        if query.phase is None and query.ready is None:
            rows, summaries, age = await self._read(span, needed, oldest, with_summaries=True)
            return Found(tuple(rows[: query.limit]), age, more=len(rows) == needed, summaries=tuple(summaries[: query.limit]))
        if query.user is None:
            return await self._page_of_states(query, oldest)
        count = max(needed, _CHUNK)
        while True:
            rows, _, age = await self._read(span, count, oldest, with_summaries=False)
            found.extend(row for row in rows if row.matches(query))
            if len(rows) < count or len(found) >= needed:
                return Found(tuple(found[: query.limit]), age, more=len(found) >= needed)
            span = span.after(rows[-1])

    async def _page_of_states(self, query: Query, oldest: float) -> Found:
        """Return the page of a query by phase, readiness or both. A row that changes its state in between is returned once."""
        found: dict[Key, Row] = {}
        oldest_read, needed = 0.0, query.limit + 1
        for span in Range.of_states(query):
            rows, _, age = await self._read(span, needed, oldest, with_summaries=False)
            oldest_read = max(oldest_read, age)
            for row in rows:
                if row.key not in found or found[row.key].version < row.version:
                    found[row.key] = row
        page = sorted(found.values(), key=lambda row: (row.key.namespace, row.key.name))
        return Found(tuple(page[: query.limit]), oldest_read, more=len(page) >= needed)

    async def _read(
        self, span: Range, count: int, oldest: float, *, with_summaries: bool
    ) -> tuple[list[Row], list[bytes], float]:
        """Return the first `count` rows in the range `span`, their summaries and the age of the head, all read in one step.
        Otherwise a fill that starts in between would truncate the list.
        """
        arguments = [span.first, span.end, count, self._keys.summary("") if with_summaries else ""]
        response = await self._connection.run(
            "index", lambda redis: READ(redis, [self._keys.head, self._keys.index], arguments)
        )
        try:
            return self._validate(response, oldest)
        except Rejected as rejected:
            self._observer.cache_rejected(rejected.reason)
            raise IndexStale(rejected.reason) from None

    def _validate(self, response: list[Any], oldest: float) -> tuple[list[Row], list[bytes], float]:
        sealed, age_text, member_count, rows, summaries = response
        if not sealed or not age_text:
            raise IndexStale("no head")
        head, age = Head.open(sealed, self._keys, self._codec), float(age_text)
        if not head.complete or head.scopes != self._scopes:
            raise IndexStale("not complete")
        if not 0 <= age <= oldest:
            raise IndexStale("too old")
        if head.rows != member_count:
            raise Rejected(Reason.OUTDATED)
        return [self._parse(row) for row in rows], summaries, age
