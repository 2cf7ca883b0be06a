"""What is watched, as the read API asks for it."""

from collections.abc import Iterator

from userstorage_operator.api.unstructured import Object
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import WatchViews
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.readmodel.query import Page, Query, T, Told, page_of


class WatchedDirectory:
    """Satisfies `domain.directory.Directory`. Complete once the views are synced."""

    def __init__(self, views: WatchViews, liveness: WatchLiveness) -> None:
        self._views = views
        self._liveness = liveness

    async def one(self, key: Key) -> Told[Object | None]:
        """The view of one UserStorage; None where there is none."""
        raw = self._views.storage(key)
        return self._told(self._views.view(raw) if raw is not None else None)

    async def page(self, query: Query) -> Told[Page]:
        """A page of views."""
        return self._told(page_of(self._views_of(query), query))

    def _views_of(self, query: Query) -> Iterator[Object]:
        return (self._views.view(raw) for raw in self._views.after(query.after, query.namespace, query.user))

    def _told(self, value: T) -> Told[T]:
        return Told(value, self._liveness.age(), self._liveness.failing)
