"""The UserStorages that compete for a thing, in order of precedence: the first is found without a scan of all UserStorages."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterator
from typing import Any, TypeVar

IndexKey = tuple[str, str]
"""Namespace, and the thing in it that UserStorages compete for: a user id, or the name of a claim. Or a host, and a path of it."""
Rank = tuple[str | bool, ...]
"""Sort key of a UserStorage; the lowest has precedence. The last element is the uid, so no two ranks are equal."""

K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=tuple[Any, ...])


def insert(lists: dict[K, list[T]], key: K, item: T) -> None:
    """Insert the item into the sorted list of the key."""
    insort(lists.setdefault(key, []), item)


def remove(lists: dict[K, list[T]], key: K, item: T) -> None:
    """Remove the item, which must be in it, from the sorted list of the key. No list stays empty."""
    items = lists[key]
    del items[bisect_left(items, item)]
    if not items:
        del lists[key]


class RankedIndex:
    """Names of the UserStorages that compete for each index key, in the order of their ranks.

    Nearly all index keys have one. So the lists are plain: a SortedList takes a kilobyte, and moving the rest of a list of 10,000
    takes microseconds.
    """

    def __init__(self) -> None:
        self._claimants: dict[IndexKey, list[tuple[Rank, str]]] = {}
        self._rank_of: dict[tuple[IndexKey, str], Rank] = {}
        """Index key and name of a UserStorage -> its rank."""
        self._name_of: dict[tuple[IndexKey, str], str] = {}
        """Index key and uid of a UserStorage -> its name."""

    def update(self, key: IndexKey, name: str, rank: Rank | None) -> Rank | None:
        """Set the rank of the UserStorage `name`; remove it if `rank` is None. Return the previous rank, or None."""
        previous = self._rank_of.get((key, name))
        if previous == rank:
            return previous
        if previous is not None:
            remove(self._claimants, key, (previous, name))
            del self._rank_of[key, name], self._name_of[key, str(previous[-1])]
        if rank is not None:
            insert(self._claimants, key, (rank, name))
            self._rank_of[key, name], self._name_of[key, str(rank[-1])] = rank, name
        return previous

    def rank(self, key: IndexKey, name: str) -> Rank | None:
        """Return the rank of the UserStorage `name`; None if it is not indexed."""
        return self._rank_of.get((key, name))

    def first(self, key: IndexKey, preferred: frozenset[str] = frozenset()) -> str | None:
        """Return the first name with a uid in `preferred`, else the first of all; None if the index key has no names."""
        names = [name for uid in preferred if (name := self._name_of.get((key, uid))) is not None]
        if names:
            return min(names, key=lambda name: self._rank_of[key, name])
        claimants = self._claimants.get(key)
        return claimants[0][1] if claimants is not None else None

    def position(self, key: IndexKey, name: str) -> int:
        """Return how many UserStorages take precedence over `name`, which must be indexed."""
        return bisect_left(self._claimants[key], (self._rank_of[key, name], name))

    def at(self, key: IndexKey, position: int) -> str | None:
        """Return the name over which `position` UserStorages take precedence; None if there are not that many."""
        claimants = self._claimants.get(key, ())
        return claimants[position][1] if 0 <= position < len(claimants) else None

    def name_of(self, key: IndexKey, uid: str | None) -> str | None:
        """Return the name of the UserStorage with this uid; None if it is not indexed."""
        return self._name_of.get((key, uid)) if uid is not None else None

    def ranked(self, key: IndexKey) -> Iterator[tuple[Rank, str]]:
        """Yield rank and name of all UserStorages at the index key, in order of precedence."""
        return iter(self._claimants.get(key, ()))

    def after(self, key: IndexKey, name: str) -> list[str]:
        """Return the names of the UserStorages over which `name` takes precedence, in order. `name` must be indexed."""
        claimants = self._claimants[key]
        return [other for _, other in claimants[bisect_right(claimants, (self._rank_of[key, name], name)) :]]
