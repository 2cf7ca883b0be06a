"""The keys of all UserStorages, in the order of the pages of the read API: all together, and those of each user id."""

from collections import defaultdict
from collections.abc import Iterator

from sortedcontainers import SortedList

from userstorage_operator.api.userstorage import Key

_Entry = tuple[str, str]
"""Namespace and name of a UserStorage."""


class SortedIndex:
    """Keys in the order of (namespace, name). An update or a search takes O(log n)."""

    def __init__(self) -> None:
        self._all: SortedList[_Entry] = SortedList()
        self._by_user: defaultdict[str, SortedList[_Entry]] = defaultdict(SortedList)
        self._user_of: dict[_Entry, str] = {}

    def add(self, key: Key, user: str) -> None:
        """Add a UserStorage to the list of all and to that of its user id.

        If its user id has changed, it leaves the list of the old one.
        """
        entry = (key.namespace, key.name)
        if self._user_of.get(entry) == user:
            return
        self.remove(key)  # a UserStorage that is created again under its name can have another user id
        self._user_of[entry] = user
        self._all.add(entry)
        self._by_user[user].add(entry)

    def remove(self, key: Key) -> None:
        """Remove a UserStorage from both lists, if it is in them."""
        entry = (key.namespace, key.name)
        user = self._user_of.pop(entry, None)
        if user is None:
            return
        self._all.remove(entry)
        self._by_user[user].remove(entry)
        if not self._by_user[user]:
            del self._by_user[user]

    def after(self, key: Key | None, namespace: str | None, user: str | None) -> Iterator[Key]:
        """Yield the keys after `key` in order, only those of `namespace` and of the user id `user` if these are not None.

        The iterator is invalid after the next change.
        """
        entries = self._all if user is None else self._by_user.get(user, SortedList())
        last = (key.namespace, key.name) if key is not None else ("", "")
        start = max(last, (namespace or "", ""))
        for entry in entries.irange(minimum=start, inclusive=(False, True)):
            if namespace is not None and entry[0] != namespace:
                return
            yield Key(*entry)
