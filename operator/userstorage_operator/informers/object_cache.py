"""The newest known version of each object of one resource, from list-watches and from responses to our own writes."""

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.unstructured import Unstructured, version_of

ObjectKey = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""
_DELETIONS_MAX = 10_000
"""Maximum number of deletions that are remembered: the gate may run for months without a new list."""


def object_key(obj: Unstructured) -> ObjectKey:
    """Return namespace and name of a raw object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _foreign_part(obj: Unstructured) -> tuple[Any, ...]:
    """Return what shows a change by another client: uid, generation, deletionTimestamp, finalizers, and the annotations that a
    tenant sets for the operator.

    The finalizers include our own, so adding it costs one more reconcile.
    """
    meta, annotations = obj["metadata"], obj["metadata"].get("annotations") or {}
    asked = [annotations.get(name) for name in (names.ANNOTATION_PAUSED, names.ANNOTATION_RESTARTED_AT)]
    return meta["uid"], meta.get("generation"), meta.get("deletionTimestamp"), meta.get("finalizers") or [], asked


class _Index:
    """Maps each value that `key_function` derives from an object to the keys of these objects."""

    def __init__(self, key_function: Callable[[Unstructured], Iterable[Hashable]]) -> None:
        self._key_function = key_function
        self._keys: dict[Hashable, set[ObjectKey]] = {}

    def keys(self, value: Hashable) -> Collection[ObjectKey]:
        return self._keys.get(value, ())

    def update(self, key: ObjectKey, previous: Unstructured | None, current: Unstructured | None) -> None:
        before, after = self._values(previous), self._values(current)
        for value in before - after:
            self._keys[value].discard(key)
            if not self._keys[value]:
                del self._keys[value]
        for value in after - before:
            self._keys.setdefault(value, set()).add(key)

    def _values(self, obj: Unstructured | None) -> frozenset[Hashable]:
        return frozenset(self._key_function(obj)) if obj is not None else frozenset()


class ObjectCache:
    """Keeps the newest version of each object. A watch event older than the response to our own write changes nothing.

    `on_foreign_change(object)` is called for changes by other clients. Such a change may first show in a response to our own
    write.
    """

    def __init__(
        self,
        on_foreign_change: Callable[[Unstructured], None],
        on_served_change: Callable[[], None] = lambda: None,
        transform: Callable[[Unstructured], Unstructured] = lambda obj: obj,
    ) -> None:
        """`transform(object)` returns the part of an object that is kept (client-go's SetTransform)."""
        self._on_foreign_change = on_foreign_change
        self._on_served_change = on_served_change
        self._transform = transform
        self._restore_handlers: list[Callable[[], None]] = []
        self._event_handlers: list[Callable[[ObjectKey, Unstructured | None], None]] = []
        self.served = True
        """Whether the API server serves the resource; `on_served_change()` is called when this changes."""
        self._objects: dict[str, dict[str, Unstructured]] = {}
        """Namespace -> name -> object."""
        self._indexes: dict[str, _Index] = {}
        self._synced: set[str | None] = set()
        self._deleted: dict[ObjectKey, int] = {}
        """Key -> resourceVersion of its deletion since the last list, the latest of them. An older event or response must not restore it."""

    def __len__(self) -> int:
        return sum(len(objects) for objects in self._objects.values())

    def add_event_handler(self, handler: Callable[[ObjectKey, Unstructured | None], None]) -> None:
        """Call `handler(key, object)` on each change, also by our own writes. `object` is None if it was removed."""
        self._event_handlers.append(handler)

    def add_restore_handler(self, handler: Callable[[], None]) -> None:
        """Call `handler()` after a list has shown that etcd was restored: resourceVersions and deletions have gone back."""
        self._restore_handlers.append(handler)

    def add_index(self, name: str, key_function: Callable[[Unstructured], Iterable[Hashable]]) -> None:
        """Index objects by all values that `key_function(object)` returns (client-go's Indexer). The cache must be empty."""
        self._indexes[name] = _Index(key_function)

    def by_index(self, name: str, value: Hashable) -> Iterator[Unstructured]:
        """Yield the objects that the index `name` has for `value`, unordered. The iterator is invalid after the next change."""
        return (self._objects[namespace][key] for namespace, key in self._indexes[name].keys(value))

    def get(self, namespace: str, name: str) -> Unstructured | None:
        """Return the cached object; None if the cache does not have it."""
        return self._objects.get(namespace, {}).get(name)

    def values(self) -> Iterable[Unstructured]:
        """Yield all objects. The iterator is invalid after the next change."""
        return (obj for objects in self._objects.values() for obj in objects.values())

    def in_namespace(self, namespace: str) -> Collection[Unstructured]:
        """Return all objects of the namespace."""
        return self._objects.get(namespace, {}).values()

    def put(self, obj: Unstructured) -> None:
        """Put the response to our own write into the cache, unless a newer version or a later deletion is already known."""
        key = object_key(obj)
        known = self.get(*key)
        if version_of(obj) <= self._deleted.get(key, 0):
            return
        if known is None or version_of(known) < version_of(obj):
            self._drop_predecessor(known, obj)
            self._store(obj)
            if known is not None and _foreign_part(known) != _foreign_part(self._transform(obj)):
                self._on_foreign_change(obj)  # the event of that change is older than this response and will be dropped

    def discard(self, namespace: str, name: str, uid: str) -> None:
        """Remove the object if it has this uid: the API server reported that the object no longer exists."""
        known = self.get(namespace, name)
        if known is not None and known["metadata"]["uid"] == uid:
            self._drop(known)

    def event(self, kind: str, obj: Unstructured) -> None:
        """Handle a watch event: ADDED, MODIFIED or DELETED.

        kopf reports the objects of a list as events too. Such an object may be older than the cached one.
        """
        key = object_key(obj)
        known = self.get(*key)
        if version_of(obj) <= (version_of(known) if known is not None else self._deleted.get(key, 0)):
            return
        self._drop_predecessor(known, obj)
        if kind == "DELETED":
            self._deleted[key] = version_of(obj)
            if len(self._deleted) > _DELETIONS_MAX:
                del self._deleted[next(iter(self._deleted))]
            self._remove(key)
        else:
            self._store(obj)
        self._on_foreign_change(obj)

    def newer_than(self, version: int, namespace: str | None = None) -> list[tuple[ObjectKey, int]]:
        """Return key and resourceVersion of each object and deletion of one namespace, or of all if it is None, that is newer
        than `version`, unordered.
        """
        found = [(object_key(known), version_of(known)) for known in self._known(namespace)] + [
            (key, deleted) for key, deleted in self._deleted.items() if namespace in (None, key[0])
        ]
        return [(key, newer) for key, newer in found if newer > version]

    def replace(
        self, objects: Iterable[Unstructured], resource_version: str, namespace: str | None = None, *, restored: bool = False
    ) -> None:
        """Put a full list of one namespace, or of all if `namespace` is None, into the cache.

        The list decides about every object and deletion that is not newer than the list: it may even return an older version, if
        etcd was restored to an earlier moment. What is newer than the list stays, unless `restored`: the caller knows then that
        etcd was restored.
        """
        bound = math.inf if restored else int(resource_version)
        listed = {object_key(obj): obj for obj in objects}
        kept = {key: version for key, version in self._deleted.items() if version > bound or namespace not in (None, key[0])}
        for key in self._deleted.keys() & listed.keys() - kept.keys():
            restored = restored or version_of(listed[key]) < self._deleted[key]
        self._deleted = kept
        for known in self._known(namespace):
            if version_of(known) > bound:
                continue
            current = listed.get(object_key(known))
            if current is None:
                self._drop(known)
            elif version_of(current) < version_of(known) or (restored and self._transform(current) != known):
                restored = True
                self._drop_predecessor(known, current)
                self._store(current)
                self._on_foreign_change(current)
        for obj in listed.values():
            self.event("ADDED", obj)
        self._synced.add(namespace)
        self._set_served(served=True)
        if restored:
            for handler in self._restore_handlers:
                handler()

    def not_served(self, namespace: str | None = None) -> None:
        """Remove the objects of one namespace, or all if it is None, because the API server does not serve the resource.

        The namespace then counts as synced, as after an empty list.
        """
        for known in self._known(namespace):
            self._drop(known)
        self._synced.add(namespace)
        self._set_served(served=False)

    def namespaces_not_synced(self, namespaces: Iterable[str | None]) -> Iterable[str | None]:
        """Yield those of `namespaces` whose first full list is not in the cache yet. The element None is the whole cluster."""
        return (namespace for namespace in namespaces if namespace not in self._synced)

    def _known(self, namespace: str | None) -> list[Unstructured]:
        """Return the objects of one namespace (None: of all) as a list that stays valid while the cache changes."""
        return list(self.values() if namespace is None else self.in_namespace(namespace))

    def _drop_predecessor(self, known: Unstructured | None, obj: Unstructured) -> None:
        """Remove `known` if `obj` is another object with its name: no event has reported the deletion of `known`."""
        if known is not None and known["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._drop(known)

    def _drop(self, known: Unstructured) -> None:
        self._remove(object_key(known))
        self._on_foreign_change(known)

    def _store(self, obj: Unstructured) -> None:
        key = namespace, name = object_key(obj)
        objects = self._objects.setdefault(namespace, {})
        previous, objects[name] = objects.get(name), self._transform(obj)
        self._notify(key, previous, objects[name])

    def _remove(self, key: ObjectKey) -> None:
        namespace, name = key
        objects = self._objects.get(namespace, {})
        previous = objects.pop(name, None)
        if not objects:
            self._objects.pop(namespace, None)
        self._notify(key, previous, None)

    def _notify(self, key: ObjectKey, previous: Unstructured | None, current: Unstructured | None) -> None:
        for index in self._indexes.values():
            index.update(key, previous, current)
        for handler in self._event_handlers:
            handler(key, current)

    def _set_served(self, *, served: bool) -> None:
        if self.served is not served:
            self.served = served
            self._on_served_change()
