"""All caches together, and the way from any object to the UserStorages that it concerns."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.resources import EXPOSURE, STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.host import HostIndex
from userstorage_operator.arbitration.precedence import Precedence
from userstorage_operator.informers.mounts import PodsByClaim
from userstorage_operator.informers.object_cache import ObjectCache, object_key
from userstorage_operator.informers.sorted_index import SortedIndex
from userstorage_operator.observed.claim_usage import mounted_claims
from userstorage_operator.observed.snapshot import Children
from userstorage_operator.plan.exposure import wanted_host
from userstorage_operator.readmodel.summary import summary

_EXPOSURE = frozenset(kind.resource for kind in EXPOSURE)

_MARK_THE_OWNER = frozenset(kind.resource for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD))


class Caches:
    """Satisfies the port `reconcile.ports.Views`. `enqueue(key)` and `enqueue_class(name)` are called for every
    change that others made.
    """

    def __init__(self, enqueue: Callable[[Key], None], enqueue_class: Callable[[str], None]) -> None:
        self._enqueue = enqueue
        self._enqueue_class = enqueue_class
        self._caches: dict[Resource, ObjectCache] = {
            USER_STORAGES: ObjectCache(self._storage_changed, transform=USER_STORAGES.transform),
            USER_STORAGE_CLASSES: ObjectCache(self._class_changed),
            STORAGE_CLASSES: ObjectCache(lambda _: self._all_changed()),
            **{kind.resource: ObjectCache(partial(self._child_changed, kind), self._all_changed) for kind in Kind},
        }
        self._precedence = Precedence(self.storage, self.children, enqueue, self._update_host)
        self._mounts = PodsByClaim()
        self._caches[Kind.POD.resource].add_event_handler(self._mounts.on_event)
        self._places = HostIndex()
        self._order = SortedIndex()
        self._told: dict[Key, tuple[Unstructured, Unstructured]] = {}
        """Raw object and its view: a page of views is asked for far more often than one of them changes."""
        self._class_wishes: dict[str, tuple[Any, ...] | None] = {}

    def cache(self, resource: Resource) -> ObjectCache:
        """The cache that a watch feeds."""
        return self._caches[resource]

    def not_synced(self, namespaces: Iterable[str | None]) -> Iterator[str]:
        """What of `namespaces` no full list has come of, for people: before all have, nothing may be decided."""
        for resource, cache in self._caches.items():
            yield from map(resource.within, cache.namespaces_not_synced(namespaces if resource.namespaced else (None,)))

    def keys(self) -> list[Key]:
        """Every known UserStorage."""
        return [Key.of(raw) for raw in self._caches[USER_STORAGES].values()]

    def storage(self, key: Key) -> Unstructured | None:
        """The UserStorage."""
        return self._caches[USER_STORAGES].get(key.namespace, key.name)

    def first_of_user(self, namespace: str, user_id: str, children: Children) -> Unstructured | None:
        """Which of the user's UserStorages comes first: one that has the children, else the oldest."""
        name = self._precedence.first_of_user(namespace, user_id, children)
        return self.storage(Key(namespace, name)) if name is not None else None

    def same_claim(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """All UserStorages of the namespace whose files are on that claim."""
        for name in self._precedence.sharing(namespace, claim):
            if (raw := self.storage(Key(namespace, name))) is not None:
                yield raw

    def in_namespace(self, namespace: str) -> Collection[Unstructured]:
        """All UserStorages of the namespace."""
        return self._caches[USER_STORAGES].in_namespace(namespace)

    def after(self, key: Key | None, namespace: str | None, user: str | None) -> Iterator[Unstructured]:
        """UserStorages in the order of (namespace, name) from behind `key` on; of one namespace, of one user id, or all."""
        for found in self._order.after(key, namespace, user):
            if (raw := self.storage(found)) is not None:
                yield raw

    def summary(self, raw: Unstructured) -> Unstructured:
        """What platform backends are told of a UserStorage; not to be changed."""
        key = Key.of(raw)
        known = self._told.get(key)
        if known is None or known[0] is not raw:
            known = self._told[key] = (raw, summary(raw))
        return known[1]

    def classes(self) -> Iterable[Unstructured]:
        """All classes."""
        return self._caches[USER_STORAGE_CLASSES].values()

    def binding_modes(self) -> Mapping[str, str]:
        """The volumeBindingMode of every StorageClass."""
        classes = self._caches[STORAGE_CLASSES].values()
        return {raw["metadata"]["name"]: raw.get("volumeBindingMode", "Immediate") for raw in classes}

    def pods_on(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """The pods of the namespace that carry our label and mount the claim."""
        for name in self._mounts.pods_on(namespace, claim):
            if (pod := self._caches[Kind.POD.resource].get(namespace, name)) is not None:
                yield pod

    def children(self, namespace: str, name: str) -> Children:
        """The objects of that name that carry our label."""
        return Children(**{kind.field: self._caches[kind.resource].get(namespace, name) for kind in Kind})

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""
        return self._caches[kind.resource].served

    def same_host(self, key: Key) -> Iterable[Unstructured]:
        """The first UserStorage of each other user that wants the host and path of this one; none where it wants none, or is
        not its own user's first.
        """
        for other in self._places.sharing(key):
            if (raw := self.storage(other)) is not None:
                yield raw

    def claim_released(self, key: Key, claim: str) -> None:
        """Have those asked again who share the claim with this one, which has no pod on it any more."""
        self._precedence.claim_released(key, claim)

    def put(self, resource: Resource, obj: Unstructured) -> None:
        """Take in the answer to our own write."""
        self._caches[resource].put(obj)
        if resource in _EXPOSURE:  # two that were made at the same moment for one place tell each other
            for key in self._precedence.affected_keys(obj):
                for other in self._places.sharing(key):
                    self._enqueue(other)
        elif resource in _MARK_THE_OWNER:
            self._precedence.settle_users(obj)

    def discard(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Take in that the API server says it is gone."""
        self._caches[resource].discard(namespace, name, uid)

    def _storage_changed(self, raw: Unstructured) -> None:
        key, user_id = Key.of(raw), raw.get("spec", {}).get("userID")
        here = self.storage(key) is not None
        self._told.pop(key, None)
        self._order.add(key, str(user_id or "")) if here else self._order.remove(key)
        if isinstance(user_id, str):
            self._precedence.update(raw, here=here)
            self._update_host(key)
        self._enqueue(key)

    def _class_changed(self, raw: Unstructured) -> None:
        """Any class may be the one a UserStorage gets by default, so all are asked, and most find nothing to do. So are the
        other classes, whether they are the default. A status is written often, and is of no concern to users.
        """
        name = raw["metadata"]["name"]
        self._enqueue_class(name)
        wish = _user_facing(raw) if self._caches[USER_STORAGE_CLASSES].get("", name) is not None else None
        if self._class_wishes.get(name) == wish:
            return
        self._class_wishes[name] = wish
        for other in list(self.classes()):
            self._enqueue_class(other["metadata"]["name"])
        for key in self.keys():
            self._update_host(key)
        self._all_changed()

    def _all_changed(self) -> None:
        for key in self.keys():
            self._enqueue(key)

    def _update_host(self, key: Key) -> None:
        """Only the first of a user is led in to."""
        raw = self.storage(key)
        at = wanted_host(raw, self._caches[USER_STORAGE_CLASSES].values()) if raw is not None else None
        if raw is not None and at is not None and not self._precedence.is_owner(raw):
            at = None
        for other in self._places.update(key, at):
            self._enqueue(other)

    def _child_changed(self, kind: Kind, child: Unstructured) -> None:
        """Concerns the one that has it, and whoever of its user comes first, who mends it. All of the user where that is
        another one now.
        """
        if kind.resource in _MARK_THE_OWNER:
            self._precedence.settle_users(child)
        concerned = self._precedence.affected_keys(child)
        for key in concerned:
            self._enqueue(key)
        if kind is Kind.POD and self._caches[kind.resource].get(*object_key(child)) is None:
            for claim in mounted_claims(child):
                for key in concerned:
                    self._precedence.claim_released(key, claim)


def _user_facing(cls: Unstructured) -> tuple[Any, ...]:
    """What of a raw class concerns its users."""
    meta = cls["metadata"]
    return meta["uid"], meta["generation"], (meta.get("annotations") or {}).get(names.ANNOTATION_DEFAULT_CLASS)
