"""All caches together, and the way from any object to the UserStorages that it concerns."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from userstorage_operator.domain import names
from userstorage_operator.domain.exposure import wanted_place
from userstorage_operator.domain.fields import Object
from userstorage_operator.domain.resources import (
    EXPOSURE,
    STORAGE_CLASSES,
    USER_STORAGE_CLASSES,
    USER_STORAGES,
    Kind,
    Resource,
)
from userstorage_operator.domain.storage import Key, named_claim
from userstorage_operator.domain.view import view
from userstorage_operator.domain.world import Children, is_terminating
from userstorage_operator.runtime.object_cache import ObjectCache
from userstorage_operator.watch.order import StorageOrder
from userstorage_operator.watch.places import PlaceIndex

_EXPOSURE = frozenset(kind.resource for kind in EXPOSURE)

_Place = tuple[str, str]
"""Namespace, and what is looked for in it."""
_Index = dict[_Place, set[str]]
"""Names of the UserStorages of each place."""


class WatchViews:
    """Satisfies the port `reconcile.ports.Views`. `enqueue(key)` and `enqueue_class(name)` are called for every
    change that others made.
    """

    def __init__(self, enqueue: Callable[[Key], None], enqueue_class: Callable[[str], None]) -> None:
        self._enqueue = enqueue
        self._enqueue_class = enqueue_class
        self._by_namespace: _Index = {}
        self._by_slug: _Index = {}
        self._by_claim: _Index = {}
        self._caches: dict[Resource, ObjectCache] = {
            USER_STORAGES: ObjectCache(self._storage_changed),
            USER_STORAGE_CLASSES: ObjectCache(self._class_changed),
            STORAGE_CLASSES: ObjectCache(lambda _: self._all_changed()),
            **{kind.resource: ObjectCache(self._child_changed, self._all_changed) for kind in Kind},
        }
        self._places = PlaceIndex()
        self._order = StorageOrder()
        self._told: dict[str, tuple[Object, Object]] = {}
        """Raw object and its view, by uid: a page of views is asked for far more often than one of them changes."""
        self._class_wishes: dict[str, tuple[Any, ...] | None] = {}

    def cache(self, resource: Resource) -> ObjectCache:
        """The cache that a watch feeds."""
        return self._caches[resource]

    def unlisted(self, namespaces: Iterable[str | None]) -> Iterator[str]:
        """What of `namespaces` no full list has come of, for people: before all have, nothing may be decided."""
        for resource, cache in self._caches.items():
            yield from map(resource.within, cache.unsynced(namespaces if resource.namespaced else (None,)))

    def keys(self) -> list[Key]:
        """Every known UserStorage."""
        return [Key.of(raw) for raw in self._caches[USER_STORAGES].values()]

    def storage(self, key: Key) -> Object | None:
        """The UserStorage."""
        return self._caches[USER_STORAGES].get(key.namespace, key.name)

    def same_user(self, namespace: str, slug: str) -> Iterable[Object]:
        """All UserStorages of the namespace whose user has that slug."""
        return self._storages_at(self._by_slug, (namespace, slug))

    def same_claim(self, namespace: str, claim: str) -> Iterable[Object]:
        """All UserStorages of the namespace whose files are on that claim."""
        return self._storages_at(self._by_claim, (namespace, claim))

    def in_namespace(self, namespace: str) -> Iterable[Object]:
        """All UserStorages of the namespace."""
        return self._storages_at(self._by_namespace, (namespace, ""))

    def after(self, key: Key | None, namespace: str | None, user: str | None) -> Iterator[Object]:
        """UserStorages in the order of (namespace, name) from behind `key` on; of one namespace, of one user id, or all."""
        for found in self._order.after(key, namespace, user):
            if (raw := self.storage(found)) is not None:
                yield raw

    def view(self, raw: Object) -> Object:
        """What platform backends are told of a UserStorage; not to be changed."""
        uid = raw["metadata"]["uid"]
        known = self._told.get(uid)
        if known is None or known[0] is not raw:
            known = self._told[uid] = (raw, view(raw))
        return known[1]

    def classes(self) -> Iterable[Object]:
        """All classes."""
        return self._caches[USER_STORAGE_CLASSES].values()

    def binding_modes(self) -> Mapping[str, str]:
        """The volumeBindingMode of every StorageClass."""
        classes = self._caches[STORAGE_CLASSES].values()
        return {raw["metadata"]["name"]: raw.get("volumeBindingMode", "Immediate") for raw in classes}

    def pods(self, namespace: str) -> Iterable[Object]:
        """All pods of the namespace that carry our label."""
        return self._caches[Kind.POD.resource].in_namespace(namespace)

    def children(self, namespace: str, name: str) -> Children:
        """The objects of that name that carry our label."""
        return Children(**{kind.field: self._caches[kind.resource].get(namespace, name) for kind in Kind})

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""
        return self._caches[kind.resource].served

    def same_place(self, key: Key) -> Iterable[Object]:
        """All other UserStorages that want the host and path of this one; none where it wants none."""
        for other in self._places.sharing(key):
            if (raw := self.storage(other)) is not None:
                yield raw

    def let_go(self, key: Key, claim: str) -> None:
        """Have those asked again who share the claim with this one."""
        self._wake_others(self._by_claim, (key.namespace, claim), key)

    def put(self, resource: Resource, obj: Object) -> None:
        """Take in the answer to our own write."""
        self._caches[resource].put(obj)
        if resource in _EXPOSURE:  # two that were made at the same moment for one place tell each other
            self._wake_neighbours(obj)

    def discard(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Take in that the API server says it is gone."""
        self._caches[resource].discard(namespace, name, uid)

    def _storage_changed(self, raw: Object) -> None:
        key, user_id = Key.of(raw), raw.get("spec", {}).get("userID")
        self._told.pop(raw["metadata"]["uid"], None)
        self._keep(self._by_namespace, (key.namespace, ""), key)
        self._find_place(key)
        self._order.drop(key) if self.storage(key) is None else self._order.take_in(key, str(user_id or ""))
        if not isinstance(user_id, str):
            self._enqueue(key)
            return
        slug = names.slug(user_id)
        self._settle(self._by_slug, (key.namespace, slug), raw)
        self._settle(self._by_claim, (key.namespace, named_claim(raw) or names.child_name(slug)), raw)
        self._enqueue(key)

    def _storages_at(self, index: _Index, place: _Place) -> Iterable[Object]:
        for name in index.get(place, ()):
            if (raw := self._caches[USER_STORAGES].get(place[0], name)) is not None:
                yield raw

    def _keep(self, index: _Index, place: _Place, key: Key) -> None:
        there = index.setdefault(place, set())
        there.discard(key.name) if self.storage(key) is None else there.add(key.name)
        if not there:
            del index[place]

    def _settle(self, index: _Index, place: _Place, raw: Object) -> None:
        """Keep an index of what only one at a time can have. One that goes, or begins to, makes way for the next; one
        that comes may come before those who wait.
        """
        key = Key.of(raw)
        known = key.name in index.get(place, ())
        self._keep(index, place, key)
        if not known or self.storage(key) is None or is_terminating(raw):
            self._wake_others(index, place, key)

    def _wake_others(self, index: _Index, place: _Place, key: Key) -> None:
        for name in index.get(place, set()) - {key.name}:
            self._enqueue(Key(key.namespace, name))

    def _class_changed(self, raw: Object) -> None:
        """Any class may be the one a UserStorage gets by default, so all are asked, and most find nothing to do. So are the
        other classes, whether they are the default. A status is written often, and is of no concern to users.
        """
        name = raw["metadata"]["name"]
        self._enqueue_class(name)
        wish = _wish(raw) if self._caches[USER_STORAGE_CLASSES].get("", name) is not None else None
        if self._class_wishes.get(name) == wish:
            return
        self._class_wishes[name] = wish
        for other in list(self.classes()):
            self._enqueue_class(other["metadata"]["name"])
        for key in self.keys():
            self._find_place(key)
        self._all_changed()

    def _all_changed(self) -> None:
        for key in self.keys():
            self._enqueue(key)

    def _find_place(self, key: Key) -> None:
        raw = self.storage(key)
        at = wanted_place(raw, self._caches[USER_STORAGE_CLASSES].values()) if raw is not None else None
        for other in self._places.move(key, at):
            self._enqueue(other)

    def _wake_neighbours(self, child: Object) -> None:
        for key in self._keys_of(child):
            for other in self._places.sharing(key):
                self._enqueue(other)

    def _child_changed(self, child: Object) -> None:
        for key in self._keys_of(child):
            self._enqueue(key)

    def _keys_of(self, child: Object) -> list[Key]:
        slug, namespace = names.slug_of_child(child["metadata"]["name"]), child["metadata"]["namespace"]
        return [Key(namespace, name) for name in self._by_slug.get((namespace, slug), ())] if slug is not None else []


def _wish(cls: Object) -> tuple[Any, ...]:
    """What of a raw class concerns its users."""
    meta = cls["metadata"]
    return meta["uid"], meta["generation"], (meta.get("annotations") or {}).get(names.ANNOTATION_DEFAULT_CLASS)
