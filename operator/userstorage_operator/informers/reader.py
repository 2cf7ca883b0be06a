"""The source of the read API on the leader: summaries from the caches, which the watches keep current."""

import asyncio
from itertools import islice

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.readmodel.query import Aged, Page, Query, T, page_of

_STRETCH = 300
"""Number of UserStorages that are looked at in a row."""


class CacheReader:
    """Implements `readmodel.query.StorageReader`. Its responses are complete once the caches have synced."""

    def __init__(self, caches: Caches, liveness: WatchLiveness) -> None:
        self._caches = caches
        self._liveness = liveness

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """Return the summary of one UserStorage; None if it does not exist."""
        return self._aged(self._caches.summary(key))

    async def page(self, query: Query) -> Aged[Page]:
        """Return the page of summaries that `query` asks for.

        Two filters that few pass together may lead through many UserStorages, so the event loop gets its turn every few hundred.
        """
        found: list[Unstructured] = []
        after = query.after
        while True:
            walked = list(islice(self._caches.after(after, query), _STRETCH))
            summaries = (summary for key in walked if (summary := self._caches.summary(key)) is not None)
            found += filter(query.matches, summaries)
            if len(walked) < _STRETCH or len(found) > query.limit:
                return self._aged(page_of(found, query))
            after = walked[-1]
            await asyncio.sleep(0)

    def _aged(self, value: T) -> Aged[T]:
        return Aged(value, self._liveness.age(), self._liveness.failing)
