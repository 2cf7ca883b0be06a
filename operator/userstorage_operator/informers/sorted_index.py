"""The keys of all UserStorages, in the order of the pages of the read API: all together, those of each user id, and those of each
phase and readiness.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from heapq import merge

from sortedcontainers import SortedList

from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.ranking import insert, remove

_Entry = tuple[str, str]
"""Namespace and name of a UserStorage."""
_State = tuple[str, bool]
"""Phase, and whether it is ready."""


class SortedIndex:
    """Keys in the order of (namespace, name). An update or a search takes O(log n)."""

    def __init__(self) -> None:
        self._all: SortedList[_Entry] = SortedList()
        self._by_user: dict[str, list[_Entry]] = {}
        """User id -> its entries: nearly always one, for which a SortedList would take a kilobyte."""
        self._by_state: defaultdict[_State, SortedList[_Entry]] = defaultdict(SortedList)
        self._known: dict[_Entry, tuple[str, _State]] = {}
        """Entry -> user id and state."""

    def add(self, key: Key, user: str, phase: str, *, ready: bool) -> None:
        """Add a UserStorage to the lists. It leaves those of a former user id or state."""
        entry = (key.namespace, key.name)
        if self._known.get(entry) == (user, (phase, ready)):
            return
        self.remove(key)  # a UserStorage that is created again under its name can have another user id
        self._known[entry] = user, (phase, ready)
        self._all.add(entry)
        insert(self._by_user, user, entry)
        self._by_state[phase, ready].add(entry)

    def remove(self, key: Key) -> None:
        """Remove a UserStorage from all lists, if it is in them."""
        entry = (key.namespace, key.name)
        known = self._known.pop(entry, None)
        if known is None:
            return
        user, state = known
        self._all.remove(entry)
        remove(self._by_user, user, entry)
        self._by_state[state].remove(entry)
        if not self._by_state[state]:
            del self._by_state[state]

    def after(
        self,
        key: Key | None,
        namespace: str | None,
        user: str | None = None,
        phase: str | None = None,
        ready: bool | None = None,
    ) -> Iterator[Key]:
        """Yield the keys after `key` in order, only those of `namespace` and of the user id `user` if these are not None. Without
        `user`, only those of `phase` and `ready` if these are not None: a user has few UserStorages.

        The iterator is invalid after the next change.
        """
        last = (key.namespace, key.name) if key is not None else ("", "")
        start = max(last, (namespace or "", ""))
        found: Iterator[_Entry]
        if user is not None:
            entries = self._by_user.get(user, [])
            found = iter(entries[bisect_right(entries, start) :])
        else:
            lists = self._lists(phase, ready)
            found = merge(*(entries.irange(minimum=start, inclusive=(False, True)) for entries in lists))
        for entry in found:
            if namespace is not None and entry[0] != namespace:
                return
            yield Key(*entry)

    def _lists(self, phase: str | None, ready: bool | None) -> "list[SortedList[_Entry]]":
        if phase is None and ready is None:
            return [self._all]
        states = self._by_state.items()
        return [found for (of, is_ready), found in states if phase in (None, of) and ready in (None, is_ready)]
