"""The newest known version of each object of one resource, from list-watches and from responses to our own writes.

An object is kept as the JSON of the part of it that is read (`observed/kept.py`); it is parsed again when it is asked for.
"""

import math
import sys
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.unstructured import Unstructured, version_of
from userstorage_operator.informers.cached_object import CachedObject, ObjectKey, object_key
from userstorage_operator.informers.indexer import Indexer
from userstorage_operator.observed.snapshot import is_terminating

_DELETIONS_MAX = 10_000
"""Maximum number of deletions that are remembered: the gate may run for months without a new list."""
_ANNOTATIONS = (names.ANNOTATION_PAUSED, names.ANNOTATION_RESTARTED_AT, names.ANNOTATION_DEFAULT_CLASS)
_TERMINATING = b'"deletionTimestamp"'
_RECENT = 256
"""Number of objects that are kept parsed: an event is followed by a reconcile, which reads the same object."""


def _shows_foreign_change(before: Unstructured, after: Unstructured) -> bool:
    """Whether `after`, the response to our own write, also shows a change by another client. Our finalizer, added, is none."""
    old, new = before["metadata"].get("finalizers") or [], after["metadata"].get("finalizers") or []
    return _foreign_part(before) != _foreign_part(after) or new not in (old, [*old, names.FINALIZER])


def _foreign_part(obj: Unstructured) -> tuple[Any, ...]:
    """Return what, beside finalizers, shows a change by another client: uid, generation, deletionTimestamp, and the annotations
    that people set for the operator.
    """
    meta, annotations = obj["metadata"], obj["metadata"].get("annotations") or {}
    asked = [annotations.get(name) for name in _ANNOTATIONS]
    return meta["uid"], meta.get("generation"), meta.get("deletionTimestamp"), asked


class _Objects(Collection[Unstructured]):
    """The objects of a namespace: their number costs nothing, and none is parsed before it is asked for."""

    def __init__(self, namespace: str, entries: Mapping[str, CachedObject]) -> None:
        self._namespace = namespace
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Unstructured]:
        return (entry.parse((self._namespace, name)) for name, entry in self._entries.items())

    def __contains__(self, obj: object) -> bool:
        return any(obj == known for known in self)


@dataclass(slots=True)
class Listing:
    """A full list of one namespace, or of all if `namespace` is None, that goes into a cache page by page."""

    namespace: str | None = None
    restored: bool = False
    """Whether etcd was restored to an earlier moment: the caller knows it before the first page, or a page shows it."""
    unbounded: bool = False
    """Whether the list decides also about what is newer than the list: the caller knows that no newer version exists."""
    keys: set[ObjectKey] = field(default_factory=set)

    def bound(self, resource_version: str) -> float:
        """Return the highest resourceVersion about which the list decides; `resource_version` is that of the list."""
        return math.inf if self.unbounded else int(resource_version)


class ObjectCache:
    """Keeps the newest version of each object. A watch event older than the response to our own write changes nothing.

    `on_foreign_change(object)` is called for changes by other clients. Such a change may first show in a response to our own
    write. Objects are what `keep` returned of them, which is shared between callers: do not change it.
    """

    def __init__(
        self,
        on_foreign_change: Callable[[Unstructured], None],
        on_served_change: Callable[[], None] = lambda: None,
        keep: Callable[[Unstructured], Unstructured | None] = lambda obj: obj,
    ) -> None:
        """`keep(object)` returns the part of an object that is kept (client-go's SetTransform); None to ignore the object."""
        self._on_foreign_change = on_foreign_change
        self._on_served_change = on_served_change
        self._keep = keep
        self._restore_handlers: list[Callable[[], None]] = []
        self._event_handlers: list[Callable[[ObjectKey, Unstructured | None], None]] = []
        self.served = True
        """Whether the API server serves the resource; `on_served_change()` is called when this changes."""
        self._entries: dict[str, dict[str, CachedObject]] = {}
        """Namespace -> name -> object."""
        self._recent: OrderedDict[ObjectKey, tuple[CachedObject, Unstructured]] = OrderedDict()
        self._indexes: dict[str, Indexer] = {}
        self._synced: set[str | None] = set()
        self._deleted: dict[ObjectKey, int] = {}
        """Key -> resourceVersion of its deletion since the last list, the latest of them. An older event or response must not restore it."""

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def add_event_handler(self, handler: Callable[[ObjectKey, Unstructured | None], None]) -> None:
        """Call `handler(key, object)` on each change, also by our own writes. `object` is None if it was removed."""
        self._event_handlers.append(handler)

    def add_restore_handler(self, handler: Callable[[], None]) -> None:
        """Call `handler()` after a list has shown that etcd was restored: resourceVersions and deletions have gone back."""
        self._restore_handlers.append(handler)

    def add_index(self, name: str, key_function: Callable[[Unstructured], Iterable[Hashable]]) -> None:
        """Index objects by all values that `key_function(object)` returns (client-go's Indexer). The cache must be empty."""
        self._indexes[name] = Indexer(key_function)

    def by_index(self, name: str, value: Hashable) -> Iterator[Unstructured]:
        """Yield the objects that the index `name` has for `value`, unordered. The iterator is invalid after the next change."""
        return (self._parsed(key, self._entries[key[0]][key[1]]) for key in self._indexes[name].keys(value))

    def get(self, namespace: str, name: str) -> Unstructured | None:
        """Return the cached object; None if the cache does not have it."""
        entry = self._entry((namespace, name))
        return self._parsed((namespace, name), entry) if entry is not None else None

    def has(self, obj: Unstructured) -> bool:
        """Whether the cache knows this version of the object, a newer one or a later deletion: an event about it changes nothing."""
        key = object_key(obj)
        known = self._entry(key)
        return version_of(obj) <= (known.version if known is not None else self._deleted.get(key, 0))

    def version(self, namespace: str, name: str) -> int | None:
        """Return the resourceVersion of the cached object; None if the cache does not have it."""
        entry = self._entry((namespace, name))
        return entry.version if entry is not None else None

    def controller(self, namespace: str, name: str) -> str | None:
        """Return the uid of the controller of the cached object; None if the object has none, or is not in the cache."""
        entry = self._entry((namespace, name))
        return entry.controller if entry is not None else None

    def is_terminating(self, namespace: str, name: str) -> bool:
        """Whether the cached object has a deletionTimestamp; it is not parsed for that."""
        entry = self._entry((namespace, name))
        return entry is not None and _TERMINATING in entry.json and is_terminating(self._parsed((namespace, name), entry))

    def keys(self, namespace: str | None = None) -> list[ObjectKey]:
        """Return the keys of all objects of one namespace, or of all if it is None."""
        scope = self._entries if namespace is None else {namespace: self._entries.get(namespace, {})}
        return [(namespace, name) for namespace, entries in scope.items() for name in entries]

    def values(self) -> Iterator[Unstructured]:
        """Yield all objects, each parsed when it is its turn. An object that was removed meanwhile is left out."""
        return self._values(self.keys())

    def in_namespace(self, namespace: str) -> Collection[Unstructured]:
        """Return all objects of the namespace, each parsed when it is its turn. Invalid after the next change."""
        return _Objects(namespace, self._entries.get(namespace, {}))

    def put(self, obj: Unstructured) -> None:
        """Put the response to our own write into the cache, unless a newer version or a later deletion is already known."""
        key, version = object_key(obj), version_of(obj)
        known = self._entry(key)
        if version <= self._deleted.get(key, 0) or (known is not None and version <= known.version):
            return
        kept = self._keep(obj)
        if kept is None:
            return
        before = self._parsed(key, known) if known is not None else None
        self._drop_predecessor(key, known, kept)
        self._store(key, kept)
        if before is not None and _shows_foreign_change(before, kept):
            self._on_foreign_change(kept)  # the event of that change is older than this response and will be dropped

    def discard(self, namespace: str, name: str, uid: str) -> None:
        """Remove the object if it has this uid: the API server reported that the object no longer exists."""
        known = self._entry((namespace, name))
        if known is not None and known.uid == uid:
            self._drop((namespace, name), known)

    def event(self, kind: str, obj: Unstructured) -> None:
        """Handle a watch event: ADDED, MODIFIED or DELETED.

        kopf reports the objects of a list as events too. Such an object may be older than the cached one.
        """
        if self.has(obj):
            return
        kept = self._keep(obj)
        if kept is None:
            return
        key = object_key(obj)
        self._drop_predecessor(key, self._entry(key), kept)
        if kind == "DELETED":
            self._deleted[key] = version_of(obj)
            if len(self._deleted) > _DELETIONS_MAX:
                del self._deleted[next(iter(self._deleted))]
            self._remove(key)
        elif not self._store(key, kept):
            return  # what has changed is not kept: nothing depends on it
        self._on_foreign_change(kept)

    def _add_listed(self, listing: Listing, key: ObjectKey, kept: Unstructured, bound: float) -> None:
        known, version = self._entry(key), version_of(kept)
        if known is None:
            deleted = self._deleted.get(key, 0)
            if deleted > bound and version <= deleted:
                return
            listing.restored = listing.restored or version < deleted
            self._deleted.pop(key, None)
        elif known.version > bound:
            if version <= known.version:
                return
        elif version < known.version:
            listing.restored = True
        self._drop_predecessor(key, known, kept)
        if self._store(key, kept) or (known is not None and version < known.version):
            self._on_foreign_change(kept)

    def newer_than(self, version: int, namespace: str | None = None) -> list[tuple[ObjectKey, int]]:
        """Return key and resourceVersion of each object and deletion of one namespace, or of all if it is None, that is newer
        than `version`, unordered.
        """
        found = ((key, self._entries[key[0]][key[1]].version) for key in self.keys(namespace))
        deleted = ((key, newer) for key, newer in self._deleted.items() if namespace in (None, key[0]))
        return [(key, newer) for known in (found, deleted) for key, newer in known if newer > version]

    def newest_version(self, namespace: str | None = None) -> int:
        """Return the highest resourceVersion of the objects and deletions of one namespace, or of all if it is None; 0 if none."""
        return max((version for _, version in self.newer_than(0, namespace)), default=0)

    def add_page(self, listing: Listing, objects: Iterable[Unstructured], resource_version: str) -> None:
        """Put a page of a full list into the cache. `resource_version` is that of the list.

        The list decides about every object and deletion that is not newer than the list: it may even return an older version, if
        etcd was restored to an earlier moment; `listing.restored` is True then. What is newer than the list stays, unless
        `listing.unbounded`.
        """
        for obj in objects:
            key = object_key(obj)
            # Nearly all that a sweep lists. No uid: the cache had this version when the page came (Source.list_pages), so what it
            # has now is that or newer than the list.
            if "uid" not in obj["metadata"] or (not listing.restored and self.version(*key) == version_of(obj)):
                listing.keys.add(key)
            elif (kept := self._keep(obj)) is not None:
                listing.keys.add(key)
                self._add_listed(listing, key, kept, listing.bound(resource_version))

    def finish_list(self, listing: Listing, resource_version: str) -> None:
        """Remove the objects that the list lacks, after its last page."""
        bound, namespace = listing.bound(resource_version), listing.namespace
        self._deleted = {
            key: version for key, version in self._deleted.items() if version > bound or namespace not in (None, key[0])
        }
        for key in self.keys(namespace):
            known = self._entry(key)
            if known is not None and known.version <= bound and key not in listing.keys:
                self._drop(key, known)
        self._synced.add(namespace)
        self._set_served(served=True)
        if listing.restored:
            for handler in self._restore_handlers:
                handler()

    def not_served(self, namespace: str | None = None) -> None:
        """Remove the objects of one namespace, or all if it is None, because the API server does not serve the resource.

        The namespace then counts as synced, as after an empty list.
        """
        for key in self.keys(namespace):
            if (known := self._entry(key)) is not None:
                self._drop(key, known)
        self._synced.add(namespace)
        self._set_served(served=False)

    def namespaces_not_synced(self, namespaces: Iterable[str | None]) -> Iterable[str | None]:
        """Yield those of `namespaces` whose first full list is not in the cache yet. The element None is the whole cluster."""
        return (namespace for namespace in namespaces if namespace not in self._synced)

    def _entry(self, key: ObjectKey) -> CachedObject | None:
        return self._entries.get(key[0], {}).get(key[1])

    def _parsed(self, key: ObjectKey, entry: CachedObject) -> Unstructured:
        recent = self._recent.get(key)
        if recent is not None and recent[0] is entry:
            self._recent.move_to_end(key)
            return recent[1]
        obj = entry.parse(key)
        self._remember(key, entry, obj)
        return obj

    def _remember(self, key: ObjectKey, entry: CachedObject, obj: Unstructured) -> None:
        self._recent[key] = (entry, obj)
        self._recent.move_to_end(key)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _values(self, keys: Iterable[ObjectKey]) -> Iterator[Unstructured]:
        return (entry.parse(key) for key in keys if (entry := self._entry(key)) is not None)

    def _drop_predecessor(self, key: ObjectKey, known: CachedObject | None, obj: Unstructured) -> None:
        """Remove `known` if `obj` is another object with its name: no event has reported the deletion of `known`."""
        if known is not None and known.uid != obj["metadata"]["uid"]:
            self._drop(key, known)

    def _drop(self, key: ObjectKey, known: CachedObject) -> None:
        obj = self._parsed(key, known)
        self._remove(key)
        self._on_foreign_change(obj)

    def _store(self, key: ObjectKey, kept: Unstructured) -> bool:
        """Store the object. Return whether what is kept of it has changed."""
        namespace, name = key
        entries = self._entries.setdefault(namespace, {})
        previous, entry = entries.get(name), CachedObject.of(kept)
        if previous is None:
            name = sys.intern(name)  # the caches of the other kinds have the same name
        entries[name] = entry
        self._remember(key, entry, kept)
        self._notify(key, kept)
        return previous is None or previous[1:] != entry[1:]

    def _remove(self, key: ObjectKey) -> None:
        namespace, name = key
        entries = self._entries.get(namespace, {})
        entries.pop(name, None)
        self._recent.pop(key, None)
        if not entries:
            self._entries.pop(namespace, None)
        self._notify(key, None)

    def _notify(self, key: ObjectKey, current: Unstructured | None) -> None:
        for index in self._indexes.values():
            index.update(key, current)
        for handler in self._event_handlers:
            handler(key, current)

    def _set_served(self, *, served: bool) -> None:
        if self.served is not served:
            self.served = served
            self._on_served_change()
