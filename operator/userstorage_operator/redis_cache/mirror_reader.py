"""Reading what the leader's mirror keeps."""

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
"""Seconds for which a head counts. The leader renews it every second."""
_CHUNK = 500
"""Rows read at a time where a filter drops some."""
_MAX_PARSED = 10_000
"""Rows that need not be parsed and checked again: the same bytes are the same row."""


class IndexStale(Exception):
    """The index cannot be relied on: not there, not whole, of other namespaces, or too old."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows in the order of (namespace, name), and how old they may be."""

    rows: tuple[Row, ...]
    age: float
    more: bool
    """Whether there are others after these."""
    summaries: tuple[bytes, ...] | None = None
    """What Redis has as the view of each; None where it was not asked."""


class MirrorReader:
    """The index. All methods raise RedisUnavailable and Behind."""

    def __init__(self, connection: RedisConnection, keys: Keys, codec: Codec, scopes: Scopes, observer: CacheObserver) -> None:
        """`scopes` are the namespaces that are answered for; a head of others is not ours."""
        self._connection = connection
        self._keys = keys
        self._codec = codec
        self._scopes = scopes
        self._observer = observer
        self._parse = lru_cache(_MAX_PARSED)(partial(parse, codec=codec))

    async def one(self, key: Key, oldest: float = FRESH) -> Found:
        """The row of one UserStorage, or none."""
        rows, views, age = await self._read(Range.of_one(key), 1, oldest, views=True)
        return Found(tuple(rows), age, more=False, summaries=tuple(views))

    async def page(self, query: Query, oldest: float = FRESH) -> Found:
        """The rows of a page; `oldest` in seconds."""
        found: list[Row] = []
        wanted, most = Range.of(query, self._codec), query.limit + 1
        if query.phase is None and query.ready is None:
            rows, views, age = await self._read(wanted, most, oldest, views=True)
            return Found(tuple(rows[: query.limit]), age, more=len(rows) == most, summaries=tuple(views[: query.limit]))
        count = max(most, _CHUNK)
        while True:
            rows, _, age = await self._read(wanted, count, oldest, views=False)
            found.extend(row for row in rows if row.wanted_by(query))
            if len(rows) < count or len(found) >= most:
                return Found(tuple(found[: query.limit]), age, more=len(found) >= most)
            wanted = wanted.after(rows[-1])

    async def _read(self, wanted: Range, count: int, oldest: float, *, views: bool) -> tuple[list[Row], list[bytes], float]:
        """Head, rows and views are read in one step: a fill that begins in between would make a list look short."""
        arguments = [wanted.first, wanted.end, count, self._keys.summary("") if views else ""]
        answer = await self._connection.run("index", lambda redis: READ(redis, [self._keys.head, self._keys.index], arguments))
        try:
            return self._validate(answer, oldest)
        except Rejected as rejected:
            self._observer.cache_rejected(rejected.reason)
            raise IndexStale(rejected.reason) from None

    def _validate(self, answer: list[Any], oldest: float) -> tuple[list[Row], list[bytes], float]:
        sealed, age_text, members, rows, views = answer
        if not sealed or not age_text:
            raise IndexStale("no head")
        head, age = Head.open(sealed, self._keys, self._codec), float(age_text)
        if not head.complete or head.scopes != self._scopes:
            raise IndexStale("not complete")
        if not 0 <= age <= oldest:
            raise IndexStale("too old")
        if head.rows != members:
            raise Rejected(Reason.OUTDATED)
        return [self._parse(row) for row in rows], views, age
