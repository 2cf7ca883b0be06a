"""Chooses for each request the source of UserStorages with the freshest data (docs/decisions/0007)."""

from collections.abc import Callable

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Aged, Page, Query, StorageReader


class FallbackReader:
    """Implements `readmodel.query.StorageReader`: reads from `watched` while `watches()` returns true, else from `shared`."""

    def __init__(self, watched: StorageReader, watches: Callable[[], bool], shared: StorageReader) -> None:
        self._watched = watched
        self._watches = watches
        self._shared = shared

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """Return the summary of one UserStorage; None if it does not exist."""
        return await self._reader().one(key)

    async def page(self, query: Query) -> Aged[Page]:
        """Return the page of summaries that the query asks for."""
        return await self._reader().page(query)

    def _reader(self) -> StorageReader:
        return self._watched if self._watches() else self._shared
