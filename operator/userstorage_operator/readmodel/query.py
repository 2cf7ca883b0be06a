"""Questions of platform backends, and the shape of the answers, whoever gives them (see `view.py` for what is listed)."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Query:
    """Which UserStorages: all that hold to every field that is not None, in the order of (namespace, name)."""

    namespace: str | None = None
    phase: str | None = None
    ready: bool | None = None
    user: str | None = None
    """`spec.userID`, exactly."""
    limit: int = 100
    after: Key | None = None
    """The last one of the page before."""

    def matches(self, view: Unstructured) -> bool:
        """Whether this one is asked for."""
        return (
            (self.namespace is None or view["namespace"] == self.namespace)
            and (self.phase is None or view["phase"] == self.phase)
            and (self.ready is None or view["ready"] is self.ready)
            and (self.user is None or view["userID"] == self.user)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Views in the order of (namespace, name), and where to go on; None at the end."""

    summaries: tuple[Unstructured, ...]
    more_after: Key | None


def page_of(views: Iterable[Unstructured], query: Query) -> Page:
    """The first page of `views`, which come in the order of (namespace, name) and begin after `query.after`."""
    chosen = tuple(islice((view for view in views if query.matches(view)), query.limit + 1))
    shown = chosen[: query.limit]
    more = len(chosen) > query.limit
    return Page(shown, Key(shown[-1]["namespace"], shown[-1]["name"]) if more else None)


@dataclass(frozen=True, slots=True)
class Aged(Generic[T]):
    """An answer, and how old it may be."""

    value: T
    age: float
    """Seconds since this was known to be so; 0 where the source is told of every change."""
    stale: bool = False
    """The source that would know better could not be asked."""


class StorageReader(Protocol):
    """Who can be asked. Raises Unavailable where nothing is known and nobody can be asked."""

    async def one(self, key: Key) -> Aged[Unstructured | None]:
        """The view of one UserStorage; None where there is none."""

    async def page(self, query: Query) -> Aged[Page]:
        """A page of views."""
