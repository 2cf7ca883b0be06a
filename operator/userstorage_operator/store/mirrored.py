"""Reading what the leader's mirror keeps."""

from dataclasses import dataclass
from typing import Any

from userstorage_operator.domain.directory import Query
from userstorage_operator.domain.storage import Key
from userstorage_operator.store.codec import Codec, Reason, Rejected
from userstorage_operator.store.head import Head, Scopes
from userstorage_operator.store.index import Range, Row, parse
from userstorage_operator.store.keys import Keys
from userstorage_operator.store.ports import Observer, Store
from userstorage_operator.store.scripts import READ

FRESH = 3.0
"""Seconds for which a head counts. The leader renews it every second."""
_CHUNK = 500
"""Rows read at a time where a filter drops some."""


class Behind(Exception):
    """The index cannot be relied on: not there, not whole, of other namespaces, or too old."""


@dataclass(frozen=True, slots=True)
class Found:
    """Rows in the order of (namespace, name), and how old they may be."""

    rows: tuple[Row, ...]
    age: float
    more: bool
    """Whether there are others after these."""


class Mirrored:
    """The index. All methods raise StoreUnavailable and Behind."""

    def __init__(self, store: Store, keys: Keys, codec: Codec, scopes: Scopes, observer: Observer) -> None:
        """`scopes` are the namespaces that are answered for; a head of others is not ours."""
        self._store = store
        self._keys = keys
        self._codec = codec
        self._scopes = scopes
        self._observer = observer

    async def one(self, key: Key, oldest: float = FRESH) -> Found:
        """The row of one UserStorage, or none."""
        rows, age = await self._read(Range.of_one(key), 1, oldest)
        return Found(tuple(rows), age, more=False)

    async def page(self, query: Query, oldest: float = FRESH) -> Found:
        """The rows of a page; `oldest` in seconds."""
        found: list[Row] = []
        wanted, most = Range.of(query, self._codec), query.limit + 1
        count = most if query.phase is None and query.ready is None else max(most, _CHUNK)
        while True:
            rows, age = await self._read(wanted, count, oldest)
            found.extend(row for row in rows if row.wanted_by(query))
            if len(rows) < count or len(found) >= most:
                return Found(tuple(found[: query.limit]), age, more=len(found) >= most)
            wanted = wanted.after(rows[-1])

    async def _read(self, wanted: Range, count: int, oldest: float) -> tuple[list[Row], float]:
        """Head and rows are read in one step: a fill that begins in between would make a list look short."""
        answer = await self._store.run(
            "index", lambda redis: READ(redis, [self._keys.head, self._keys.index], [wanted.first, wanted.end, count])
        )
        try:
            return self._judge(answer, oldest)
        except Rejected as rejected:
            self._observer.cache_rejected(rejected.reason)
            raise Behind(rejected.reason) from None

    def _judge(self, answer: list[Any], oldest: float) -> tuple[list[Row], float]:
        sealed, age_text, members, rows = answer
        if not sealed or not age_text:
            raise Behind("no head")
        head, age = Head.open(sealed, self._keys, self._codec), float(age_text)
        if not head.complete or head.scopes != self._scopes:
            raise Behind("not complete")
        if not 0 <= age <= oldest:
            raise Behind("too old")
        if head.rows != members:
            raise Rejected(Reason.OUTDATED)
        return [parse(row, self._codec) for row in rows], age
