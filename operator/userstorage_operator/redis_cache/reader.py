"""Reads UserStorages for the read API in a replica that does not lead: from the leader's mirror in Redis, else from the API
server, else from older data.
"""

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
from userstorage_operator.redis_cache.ports import ApiServer
from userstorage_operator.redis_cache.read_through_cache import ReadThroughCache, Wanted

T = TypeVar("T")

_LIST_FRESH = 2.0
"""Seconds for which one list from the API server serves all requests to this replica."""
_OBJECT_TTL = 2.0
"""Seconds for which one GET from the API server serves all replicas."""
_CONCURRENCY = 8
"""Maximum number of concurrent GETs from the API server for summaries that Redis does not have."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """The summaries of all served UserStorages, from one list."""

    keys: list[tuple[str, str]]
    """Pairs of namespace and name, sorted."""
    summaries: dict[tuple[str, str], Unstructured]

    def page(self, query: Query) -> Page:
        """Return the page of this list that the query asks for."""
        after = query.after
        start = bisect_right(self.keys, (after.namespace, after.name)) if after is not None else 0
        return page_of((self.summaries[self.keys[position]] for position in range(start, len(self.keys))), query)


class RedisReader:
    """Implements `readmodel.query.StorageReader` for a replica that does not lead."""

    def __init__(
        self, api_server: ApiServer, mirror: MirrorReader, cache: ReadThroughCache, keys: Keys, scopes: Scopes
    ) -> None:
        self._api_server = api_server
        self._mirror = mirror
        self._cache = cache
        self._keys = keys
        self._scopes = scopes
        self._lists: LastKnownCache[None, _Listed] = LastKnownCache(_LIST_FRESH, 1)
        self._fetching = asyncio.Semaphore(_CONCURRENCY)

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """Return the summary of one UserStorage; None if it does not exist. Raises Unavailable if no source has data."""
        if self._scopes != (None,) and key.namespace not in self._scopes:
            return Aged(None, 0.0)

        async def from_mirror(oldest: float) -> Aged[Unstructured | None]:
            found = await self._mirror.one(key, oldest)
            response = await self._summaries(found)
            return Aged(next(iter(response.value), None), response.age, response.stale)

        return await _freshest(from_mirror, lambda: self._get_from_api_server(key))

    async def page(self, query: Query) -> Aged[Page]:
        """Return the page of summaries that the query asks for. Raises Unavailable if no source has data."""

        async def from_mirror(oldest: float) -> Aged[Page]:
            found = await self._mirror.page(query, oldest)
            response = await self._summaries(found)
            shown = tuple(item for item in response.value if item is not None and query.matches(item))
            return Aged(Page(shown, found.rows[-1].key if found.more else None), response.age, response.stale)

        async def from_api_server() -> Aged[Page]:
            listed = await self._lists.get(None, self._list)
            return Aged(listed.value.page(query), listed.age, listed.stale)

        return await _freshest(from_mirror, from_api_server)

    async def _summaries(self, found: Found) -> Aged[list[Unstructured | None]]:
        """Return the summary of each row in `found`; None if the UserStorage was deleted in the meantime.

        A summary that is missing in Redis, or older than the version in its row, is fetched from the API server.
        """
        wanted = [Wanted(self._keys.summary(row.uid), row.uid, row.version) for row in found.rows]
        if found.summaries is not None:
            entries = self._cache.validate(wanted, found.summaries)
        else:
            entries = await self._cache.get_many(wanted) if wanted else []
        missing = [number for number, entry in enumerate(entries) if entry is None]
        fetched = await asyncio.gather(*(self._missing(found.rows[number].key, wanted[number]) for number in missing))
        summaries = [entry.value if entry is not None else None for entry in entries]
        for number, response in zip(missing, fetched, strict=True):
            summaries[number] = response.value
        stale = [response.age for response in fetched if response.stale]
        return Aged(summaries, max(found.age, *stale, 0.0), bool(stale))

    async def _missing(self, key: Key, wanted: Wanted) -> Aged[Unstructured | None]:
        return await self._cache.get_or_fetch(wanted, lambda: self._get(key), TTL)

    async def _get_from_api_server(self, key: Key) -> Aged[Unstructured | None]:
        if (listed := self._lists.fresh(None)) is not None:
            return Aged(listed.value.summaries.get((key.namespace, key.name)), listed.age)
        return await self._cache.get_or_fetch(Wanted(self._keys.answer(key)), lambda: self._get(key), _OBJECT_TTL)

    async def _get(self, key: Key) -> Entry:
        try:
            async with self._fetching:
                raw = await self._api_server.get(USER_STORAGES, key.namespace, key.name)
        except NotFound:
            return Entry(None, time=time.time())
        return Entry.of(summary(raw), term=0, time=time.time())

    async def _list(self) -> Aged[_Listed]:
        """List UserStorages in all served namespaces, so that one list answers requests about any namespace or user."""
        summaries: dict[tuple[str, str], Unstructured] = {}
        for namespace in self._scopes:
            async for page in self._api_server.pages(USER_STORAGES, namespace):
                summaries |= {(raw["metadata"]["namespace"], raw["metadata"]["name"]): summary(raw) for raw in page}
        return Aged(_Listed(sorted(summaries), summaries), 0.0)


async def _freshest(
    from_mirror: Callable[[float], Awaitable[Aged[T]]], from_api_server: Callable[[], Awaitable[Aged[T]]]
) -> Aged[T]:
    """Return the first response that is fresh: that of the mirror, else that of the API server. If neither is fresh, return the
    younger of their older responses, marked stale. Raises Unavailable if there is none.
    """
    try:
        return await from_mirror(FRESH)
    except (RedisUnavailable, IndexStale, Unavailable):
        pass
    fallbacks: list[Aged[T]] = []
    failure = Unavailable(0, "no data about UserStorages is available")
    try:
        response = await from_api_server()
        if not response.stale:
            return response
        fallbacks.append(response)
    except Unavailable as error:
        failure = error
    with contextlib.suppress(RedisUnavailable, IndexStale, Unavailable):
        fallbacks.append(replace(await from_mirror(math.inf), stale=True))
    if not fallbacks:
        raise failure
    return min(fallbacks, key=attrgetter("age"))
