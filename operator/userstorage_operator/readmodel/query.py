"""Queries of the read API and pages of results, the same for every source. `summary.py` defines the entries of a page."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """Filters and a page of UserStorages, ordered by (namespace, name). A filter that is None selects all."""

    namespace: str | None = None
    phase: str | None = None
    ready: bool | None = None
    user: str | None = None
    """`spec.userID`, exactly."""
    limit: int = 100
    after: Key | None = None
    """Key of the last entry of the previous page."""

    def matches(self, summary: Unstructured) -> bool:
        """Whether a summary passes all filters."""
        return (
            (self.namespace is None or summary["namespace"] == self.namespace)
            and (self.phase is None or summary["phase"] == self.phase)
            and (self.ready is None or summary["ready"] is self.ready)
            and (self.user is None or summary["userID"] == self.user)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Summaries ordered by (namespace, name), and the key to continue after; None on the last page."""

    summaries: tuple[Unstructured, ...]
    more_after: Key | None


def page_of(summaries: Iterable[Unstructured], query: Query) -> Page:
    """Return the first page of the summaries that match.

    `summaries` must be ordered by (namespace, name) and start after `query.after`.
    """
    selected = tuple(islice((summary for summary in summaries if query.matches(summary)), query.limit + 1))
    page = selected[: query.limit]
    more = len(selected) > query.limit
    return Page(page, Key(page[-1]["namespace"], page[-1]["name"]) if more else None)


@dataclass(frozen=True, slots=True)
class Aged(Generic[T]):
    """A value with its maximum age."""

    value: T
    age: float
    """Seconds since the value was known to be current; 0 if the source receives every change."""
    stale: bool = False
    """Whether a more current source exists but could not be read."""


class StorageReader(Protocol):
    """A source of summaries. Its methods raise Unavailable if the value is unknown and cannot be read."""

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """Return the summary of one UserStorage; None if it does not exist."""

    async def page(self, query: Query) -> Aged[Page]:
        """Return a page of summaries."""
