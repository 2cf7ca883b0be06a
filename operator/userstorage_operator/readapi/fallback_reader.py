"""Who answers: whoever is nearest to the truth (docs/decisions/0007)."""

from collections.abc import Callable

from userstorage_operator.api.unstructured import Object
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Directory, Page, Query, Told


class NearestDirectory:
    """Satisfies `domain.directory.Directory`: what this process watches while `watches()`, else what all replicas share."""

    def __init__(self, watched: Directory, watches: Callable[[], bool], shared: Directory) -> None:
        self._watched = watched
        self._watches = watches
        self._shared = shared

    async def one(self, key: Key) -> Told[Object | None]:
        """The view of one UserStorage; None where there is none."""
        return await self._nearest().one(key)

    async def page(self, query: Query) -> Told[Page]:
        """A page of views."""
        return await self._nearest().page(query)

    def _nearest(self) -> Directory:
        return self._watched if self._watches() else self._shared
