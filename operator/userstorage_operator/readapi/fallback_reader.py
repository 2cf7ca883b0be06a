"""Who answers: whoever is nearest to the truth (docs/decisions/0007)."""

from collections.abc import Callable

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Aged, Page, Query, StorageReader


class FallbackReader:
    """Satisfies `domain.directory.Directory`: what this process watches while `watches()`, else what all replicas share."""

    def __init__(self, watched: StorageReader, watches: Callable[[], bool], shared: StorageReader) -> None:
        self._watched = watched
        self._watches = watches
        self._shared = shared

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """The view of one UserStorage; None where there is none."""
        return await self._nearest().one(key)

    async def page(self, query: Query) -> Aged[Page]:
        """A page of views."""
        return await self._nearest().page(query)

    def _nearest(self) -> StorageReader:
        return self._watched if self._watches() else self._shared
