"""Queries of the read API, and pages of summaries (`summary.py`), the same for every StorageReader."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """Which UserStorages to return: filters, and one page of the order (namespace, name). A filter that is None selects all."""

    namespace: str | None = None
    phase: str | None = None
    ready: bool | None = None
    user: str | None = None
    """The value of `spec.userID`."""
    limit: int = 100
    after: Key | None = None
    """Key of the last UserStorage of the previous page; None for the first page."""

    def matches(self, summary: Unstructured) -> bool:
        """Whether a summary passes all filters. `limit` and `after` are not filters."""
        return (
            (self.namespace is None or summary["namespace"] == self.namespace)
            and (self.phase is None or summary["phase"] == self.phase)
            and (self.ready is None or summary["ready"] is self.ready)
            and (self.user is None or summary["userID"] == self.user)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Summaries ordered by (namespace, name). `more_after` is the key of the last one; None on the last page of a query."""

    summaries: tuple[Unstructured, ...]
    more_after: Key | None


def page_of(summaries: Iterable[Unstructured], query: Query) -> Page:
    """Return the page with the first `query.limit` of those `summaries` that `query.matches`.

    `summaries` must be ordered by (namespace, name) and start after `query.after`.
    """
    selected = tuple(islice((summary for summary in summaries if query.matches(summary)), query.limit + 1))
    page = selected[: query.limit]
    more = len(selected) > query.limit
    return Page(page, Key(page[-1]["namespace"], page[-1]["name"]) if more else None)


@dataclass(frozen=True, slots=True)
class Aged(Generic[T]):
    """A value that the read API returns, and how old it can be at most."""

    value: T
    age: float
    """Seconds since the value was known to be current; 0 if the source receives every change."""
    stale: bool = False
    """Whether a more current source exists but could not be read."""


class StorageReader(Protocol):
    """A source of summaries. Its methods raise Unavailable if the summaries are unknown and cannot be read."""

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """Return the summary of one UserStorage; None if it does not exist."""

    async def page(self, query: Query) -> Aged[Page]:
        """Return the page of summaries that `query` asks for."""
