"""The Directory of a replica that does not watch: Redis where the leader keeps it, else the API server, else what was known."""

import asyncio
import contextlib
import math
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TypeVar

from userstorage_operator.api.errors import NotFound, Unavailable
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Aged, Page, Query, page_of
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.codec import Entry
from userstorage_operator.redis_cache.connection import RedisUnavailable
from userstorage_operator.redis_cache.head import Scopes
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.last_known_cache import LastKnownCache
from userstorage_operator.redis_cache.mirror import TTL
from userstorage_operator.redis_cache.mirror_reader import FRESH, Found, IndexStale, MirrorReader
from userstorage_operator.redis_cache.ports import Cluster
from userstorage_operator.redis_cache.read_through_cache import ReadThroughCache, Wanted

T = TypeVar("T")

_LISTED = 2.0
"""Seconds for which a list from the API server serves all requests."""
_ANSWER_TTL = 2.0
"""Seconds for which what the API server said of one object serves all replicas."""
_AT_ONCE = 8
"""Views that are missing are asked for at the API server, so many at the same time."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """Everything, from one list."""

    keys: list[tuple[str, str]]
    """Sorted."""
    views: dict[tuple[str, str], Unstructured]

    def page(self, query: Query) -> Page:
        """A page of it."""
        after = query.after
        start = bisect_right(self.keys, (after.namespace, after.name)) if after is not None else 0
        return page_of((self.views[self.keys[at]] for at in range(start, len(self.keys))), query)


class RedisReader:
    """Satisfies `domain.directory.Directory`."""

    def __init__(self, cluster: Cluster, mirrored: MirrorReader, cache: ReadThroughCache, keys: Keys, scopes: Scopes) -> None:
        self._cluster = cluster
        self._mirrored = mirrored
        self._cache = cache
        self._keys = keys
        self._scopes = scopes
        self._lists: LastKnownCache[None, _Listed] = LastKnownCache(_LISTED, 1)
        self._fetching = asyncio.Semaphore(_AT_ONCE)

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """The view of one UserStorage. Raises Unavailable."""
        if self._scopes != (None,) and key.namespace not in self._scopes:
            return Aged(None, 0.0)

        async def indexed(oldest: float) -> Aged[Unstructured | None]:
            found = await self._mirrored.one(key, oldest)
            told = await self._views(found)
            return Aged(next(iter(told.value), None), told.age, told.stale)

        return await _nearest(indexed, lambda: self._one_asked_for(key))

    async def page(self, query: Query) -> Aged[Page]:
        """A page of views. Raises Unavailable."""

        async def indexed(oldest: float) -> Aged[Page]:
            found = await self._mirrored.page(query, oldest)
            told = await self._views(found)
            shown = tuple(one for one in told.value if one is not None and query.matches(one))
            return Aged(Page(shown, found.rows[-1].key if found.more else None), told.age, told.stale)

        async def asked_for() -> Aged[Page]:
            listed = await self._lists.get(None, self._list)
            return Aged(listed.value.page(query), listed.age, listed.stale)

        return await _nearest(indexed, asked_for)

    async def _views(self, found: Found) -> Aged[list[Unstructured | None]]:
        """The view of each row; None for what went in the meantime. The rows of a fresh head are as good as a watch: what
        is older than they say, or not there, is asked for.
        """
        wanted = [Wanted(self._keys.view(row.uid), row.uid, row.version) for row in found.rows]
        if found.summaries is not None:
            entries = self._cache.validate(wanted, found.summaries)
        else:
            entries = await self._cache.get_many(wanted) if wanted else []
        missing = [number for number, entry in enumerate(entries) if entry is None]
        fetched = await asyncio.gather(*(self._missing(found.rows[number].key, wanted[number]) for number in missing))
        views = [entry.value if entry is not None else None for entry in entries]
        for number, told in zip(missing, fetched, strict=True):
            views[number] = told.value
        stale = [told.age for told in fetched if told.stale]
        return Aged(views, max(found.age, *stale, 0.0), bool(stale))

    async def _missing(self, key: Key, wanted: Wanted) -> Aged[Unstructured | None]:
        return await self._cache.get_or_fetch(wanted, lambda: self._get(key), TTL)

    async def _one_asked_for(self, key: Key) -> Aged[Unstructured | None]:
        if (listed := self._lists.fresh(None)) is not None:
            return Aged(listed.value.views.get((key.namespace, key.name)), listed.age)
        return await self._cache.get_or_fetch(Wanted(self._keys.answer(key)), lambda: self._get(key), _ANSWER_TTL)

    async def _get(self, key: Key) -> Entry:
        try:
            async with self._fetching:
                raw = await self._cluster.get(USER_STORAGES, key.namespace, key.name)
        except NotFound:
            return Entry(None, time=time.time())
        return Entry.of(summary(raw), term=0, time=time.time())

    async def _list(self) -> Aged[_Listed]:
        """All that is answered for: one list at a time, however many namespaces and users are asked about."""
        views: dict[tuple[str, str], Unstructured] = {}
        for namespace in self._scopes:
            raws, _ = await self._cluster.list_all(USER_STORAGES, namespace)
            views |= {(raw["metadata"]["namespace"], raw["metadata"]["name"]): summary(raw) for raw in raws}
        return Aged(_Listed(sorted(views), views), 0.0)


async def _nearest(indexed: Callable[[float], Awaitable[Aged[T]]], asked_for: Callable[[], Awaitable[Aged[T]]]) -> Aged[T]:
    """From the index where that is fresh, else from the API server, else the youngest of what is left. Raises Unavailable."""
    try:
        return await indexed(FRESH)
    except (RedisUnavailable, IndexStale, Unavailable):
        pass
    left: list[Aged[T]] = []
    failure = Unavailable(0, "nothing is known")
    try:
        told = await asked_for()
        if not told.stale:
            return told
        left.append(told)
    except Unavailable as error:
        failure = error
    with contextlib.suppress(RedisUnavailable, IndexStale, Unavailable):
        left.append(replace(await indexed(math.inf), stale=True))
    if not left:
        raise failure
    return min(left, key=attrgetter("age"))
