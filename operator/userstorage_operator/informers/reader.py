"""What is watched, as the read API asks for it."""

from collections.abc import Iterator

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.readmodel.query import Aged, Page, Query, T, page_of


class CacheReader:
    """Satisfies `domain.directory.Directory`. Complete once the views are synced."""

    def __init__(self, views: Caches, liveness: WatchLiveness) -> None:
        self._views = views
        self._liveness = liveness

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """The view of one UserStorage; None where there is none."""
        raw = self._views.storage(key)
        return self._aged(self._views.summary(raw) if raw is not None else None)

    async def page(self, query: Query) -> Aged[Page]:
        """A page of views."""
        return self._aged(page_of(self._summaries_of(query), query))

    def _summaries_of(self, query: Query) -> Iterator[Unstructured]:
        return (self._views.summary(raw) for raw in self._views.after(query.after, query.namespace, query.user))

    def _aged(self, value: T) -> Aged[T]:
        return Aged(value, self._liveness.age(), self._liveness.failing)
