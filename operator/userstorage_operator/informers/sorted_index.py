"""The keys of all UserStorages in the order that pages are told in, and by user, kept up to date on every change."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from userstorage_operator.api.userstorage import Key

_Sorted = tuple[str, str]
"""Namespace and name."""


class SortedIndex:
    """Finding is O(log n); taking in is O(log n) and a move of memory."""

    def __init__(self) -> None:
        self._all: list[_Sorted] = []
        self._by_user: dict[str, list[_Sorted]] = {}
        self._user_of: dict[_Sorted, str] = {}

    def add(self, key: Key, user: str) -> None:
        """There is such a UserStorage, of that user."""
        entry = (key.namespace, key.name)
        if self._user_of.get(entry) == user:
            return
        self.remove(key)  # the user of a name can change where an object is made anew
        self._user_of[entry] = user
        insort(self._all, entry)
        insort(self._by_user.setdefault(user, []), entry)

    def remove(self, key: Key) -> None:
        """There is none any more."""
        entry = (key.namespace, key.name)
        user = self._user_of.pop(entry, None)
        if user is None:
            return
        del self._all[bisect_left(self._all, entry)]
        there = self._by_user[user]
        del there[bisect_left(there, entry)]
        if not there:
            del self._by_user[user]

    def after(self, key: Key | None, namespace: str | None, user: str | None) -> Iterator[Key]:
        """Those that come after `key`, of one namespace and one user where these are not None. Not to be used across a
        change.
        """
        entries = self._all if user is None else self._by_user.get(user, [])
        begin = bisect_right(entries, (key.namespace, key.name)) if key is not None else 0
        if namespace is not None:
            begin = max(begin, bisect_left(entries, (namespace, "")))
        for index in range(begin, len(entries)):
            if namespace is not None and entries[index][0] != namespace:
                return
            yield Key(*entries[index])
