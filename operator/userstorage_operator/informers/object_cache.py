"""What a list-watch has seen of one resource, and what our own writes were answered: the newest of each object."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from userstorage_operator.api.unstructured import version_of

ObjectKey = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""


def object_key(obj: dict[str, Any]) -> ObjectKey:
    """Key of a raw object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _foreign_part(obj: dict[str, Any]) -> tuple[Any, ...]:
    """What others change: which object it is, its spec, whether it is to go and who keeps it. Our own finalizer is among the
    last, and costs a look more.
    """
    meta = obj["metadata"]
    return meta["uid"], meta.get("generation"), meta.get("deletionTimestamp"), meta.get("finalizers") or []


class ObjectCache:
    """Newest wins, whoever brings it: a watch event that is older than the answer to our own write changes nothing.

    `changed(object)` is called for what others did. The answer to a write of ours may be the first to tell of that too.
    """

    def __init__(
        self,
        on_foreign_change: Callable[[dict[str, Any]], None],
        on_served_change: Callable[[], None] = lambda: None,
        transform: Callable[[dict[str, Any]], dict[str, Any]] = lambda obj: obj,
    ) -> None:
        """`slim(object)` is what of it is kept."""
        self._on_foreign_change = on_foreign_change
        self._on_served_change = on_served_change
        self._transform = transform
        self._event_handlers: list[Callable[[ObjectKey, dict[str, Any] | None], None]] = []
        self.served = True
        """Whether the API server knows the resource at all; `turned()` is called when that changes."""
        self._objects: dict[str, dict[str, dict[str, Any]]] = {}
        """By namespace, then by name."""
        self._synced: set[str | None] = set()
        self._deleted: dict[ObjectKey, int] = {}
        """Versions of deletions since the last list: what was said before them must not bring the dead back."""

    def __len__(self) -> int:
        return sum(len(there) for there in self._objects.values())

    def add_event_handler(self, handler: Callable[[ObjectKey, dict[str, Any] | None], None]) -> None:
        """Call `listener(key, object)` for every change of what is held, our own writes included; None: it is gone."""
        self._event_handlers.append(handler)

    def get(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The object as last seen."""
        return self._objects.get(namespace, {}).get(name)

    def values(self) -> Iterable[dict[str, Any]]:
        """All objects."""
        return (obj for there in self._objects.values() for obj in there.values())

    def in_namespace(self, namespace: str) -> Collection[dict[str, Any]]:
        """All objects of the namespace."""
        return self._objects.get(namespace, {}).values()

    def put(self, obj: dict[str, Any]) -> None:
        """Take in the answer to our own write. One that comes after the event of a later deletion tells of a ghost."""
        key = object_key(obj)
        known = self.get(*key)
        if version_of(obj) <= self._deleted.get(key, 0):
            return
        if known is None or version_of(known) < version_of(obj):
            self._replace(known, obj)
            self._keep(obj)
            if known is not None and _foreign_part(known) != _foreign_part(obj):
                self._on_foreign_change(obj)  # the event of that will be older than this answer, and be dropped

    def discard(self, namespace: str, name: str, uid: str) -> None:
        """The API server says that this very object is gone."""
        known = self.get(namespace, name)
        if known is not None and known["metadata"]["uid"] == uid:
            self._drop((namespace, name))
            self._on_foreign_change(known)

    def event(self, kind: str, obj: dict[str, Any]) -> None:
        """Take in a watch event: ADDED, MODIFIED or DELETED. Lists that are behind are told as events too."""
        key = object_key(obj)
        known = self.get(*key)
        if version_of(obj) <= (version_of(known) if known is not None else self._deleted.get(key, 0)):
            return
        self._replace(known, obj)
        if kind == "DELETED":
            self._deleted[key] = version_of(obj)
            self._drop(key)
        else:
            self._keep(obj)
        self._on_foreign_change(obj)

    def replace(self, objects: Iterable[dict[str, Any]], resource_version: str, namespace: str | None = None) -> None:
        """Take in a full list (of one namespace, or of all). What it lacks is gone, unless it came after the list."""
        listed = {
            key: obj for key, obj in ((object_key(obj), obj) for obj in objects) if version_of(obj) > self._deleted.get(key, 0)
        }
        for known in self._within(namespace):
            if object_key(known) not in listed and version_of(known) <= int(resource_version):
                self._drop(object_key(known))
                self._on_foreign_change(known)
        for obj in listed.values():
            self.event("ADDED", obj)
        self._deleted = {key: version for key, version in self._deleted.items() if version > int(resource_version)}
        self._synced.add(namespace)
        self._set_served(served=True)

    def not_served(self, namespace: str | None = None) -> None:
        """Take in that the API server does not know the resource: as good as an empty list."""
        for known in self._within(namespace):
            self._drop(object_key(known))
            self._on_foreign_change(known)
        self._synced.add(namespace)
        self._set_served(served=False)

    def _within(self, namespace: str | None) -> list[dict[str, Any]]:
        """What there is in one namespace, or in all, while it changes."""
        return list(self.values() if namespace is None else self.in_namespace(namespace))

    def _replace(self, known: dict[str, Any] | None, obj: dict[str, Any]) -> None:
        """Tell of the end of `known`, which nobody told of, where `obj` is another object of its name."""
        if known is not None and known["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._drop(object_key(known))
            self._on_foreign_change(known)

    def _keep(self, obj: dict[str, Any]) -> None:
        namespace, name = object_key(obj)
        obj = self._objects.setdefault(namespace, {})[name] = self._transform(obj)
        self._notify((namespace, name), obj)

    def _drop(self, key: ObjectKey) -> None:
        namespace, name = key
        there = self._objects.get(namespace, {})
        there.pop(name, None)
        if not there:
            self._objects.pop(namespace, None)
        self._notify(key, None)

    def _notify(self, key: ObjectKey, obj: dict[str, Any] | None) -> None:
        for listener in self._event_handlers:
            listener(key, obj)

    def _set_served(self, *, served: bool) -> None:
        if self.served is not served:
            self.served = served
            self._on_served_change()

    def namespaces_not_synced(self, namespaces: Iterable[str | None]) -> Iterable[str | None]:
        """Those of `namespaces` (None: of all together) of which no full list has come in."""
        return (namespace for namespace in namespaces if namespace not in self._synced)
