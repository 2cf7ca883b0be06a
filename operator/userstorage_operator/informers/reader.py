"""The source of the read API on the leader: summaries from the caches, which the watches keep current."""

from collections.abc import Iterator

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.readmodel.query import Aged, Page, Query, T, page_of


class CacheReader:
    """Implements `readmodel.query.StorageReader`. Its responses are complete once the caches have synced."""

    def __init__(self, caches: Caches, liveness: WatchLiveness) -> None:
        self._caches = caches
        self._liveness = liveness

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """Return the summary of one UserStorage; None if it does not exist."""
        raw = self._caches.storage(key)
        return self._aged(self._caches.summary(raw) if raw is not None else None)

    async def page(self, query: Query) -> Aged[Page]:
        """Return the page of summaries that `query` asks for."""
        return self._aged(page_of(self._summaries(query), query))

    def _summaries(self, query: Query) -> Iterator[Unstructured]:
        return (self._caches.summary(raw) for raw in self._caches.after(query.after, query.namespace, query.user))

    def _aged(self, value: T) -> Aged[T]:
        return Aged(value, self._liveness.age(), self._liveness.failing)
