"""Finds the objects of a cache by a value that is derived from each (client-go's Indexer)."""

from collections.abc import Callable, Collection, Hashable, Iterable

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.cached_object import ObjectKey


class Indexer:
    """Maps each value that `key_function` derives from an object to the keys of these objects."""

    def __init__(self, key_function: Callable[[Unstructured], Iterable[Hashable]]) -> None:
        """`key_function(object)` returns the values by which the object is found."""
        self._key_function = key_function
        self._keys: dict[Hashable, set[ObjectKey]] = {}
        self._values: dict[ObjectKey, frozenset[Hashable]] = {}

    def keys(self, value: Hashable) -> Collection[ObjectKey]:
        """Return the keys of the objects with this value. It is invalid after the next change."""
        return self._keys.get(value, ())

    def update(self, key: ObjectKey, current: Unstructured | None) -> None:
        """Index an object that was created or changed; None if it is gone."""
        before = self._values.pop(key, frozenset())
        after = frozenset(self._key_function(current)) if current is not None else frozenset()
        for value in before - after:
            self._keys[value].discard(key)
            if not self._keys[value]:
                del self._keys[value]
        for value in after - before:
            self._keys.setdefault(value, set()).add(key)
        if after:
            self._values[key] = after
