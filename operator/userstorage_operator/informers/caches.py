"""The caches of all resources. They requeue the UserStorages and classes that a change of an object affects."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.resources import EXPOSURE, STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import choose_class
from userstorage_operator.arbitration.claim import ClaimIndex
from userstorage_operator.arbitration.directories import Claimant
from userstorage_operator.arbitration.host import HostIndex
from userstorage_operator.arbitration.quota import QuotaIndex
from userstorage_operator.arbitration.user_id import OwnerChange, UserIDIndex, owner_uids
from userstorage_operator.informers.cached_object import ObjectKey, object_key
from userstorage_operator.informers.object_cache import ObjectCache
from userstorage_operator.informers.sorted_index import SortedIndex
from userstorage_operator.observed.claim_usage import ClaimUse, mounted_claims
from userstorage_operator.observed.kept import keep, shared_claim
from userstorage_operator.observed.snapshot import Children
from userstorage_operator.plan.finalizers import is_held, is_unwatched
from userstorage_operator.readmodel.query import Query
from userstorage_operator.readmodel.summary import summary

_EXPOSURE = frozenset(kind.resource for kind in EXPOSURE)
_MARK_THE_OWNER = frozenset(kind.resource for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD))
"""The children whose controller ownerReference shows which UserStorage owns the user id."""
_BY_CLAIM = "claim"


class Caches:
    """Implements the protocol `arbitration.lister.Lister`.

    `enqueue(key)` and `enqueue_class(name)` are called for each UserStorage and class that a change by another client affects.
    After our own write, `enqueue` is called only for the UserStorages that compete with the one that was written. `resync(key)` is
    called instead of `enqueue` for each UserStorage that a change of a class or StorageClass may concern.
    """

    def __init__(
        self,
        enqueue: Callable[[Key], None],
        enqueue_class: Callable[[str], None],
        resync: Callable[[Key], None] | None = None,
    ) -> None:
        """Connect the caches; `resync` is `enqueue` by default."""
        self._enqueue = enqueue
        self._resync = resync or enqueue
        self._enqueue_class = enqueue_class
        self._storages = ObjectCache(self._storage_changed, keep=keep(USER_STORAGES))
        self._classes = ObjectCache(self._class_changed, keep=keep(USER_STORAGE_CLASSES))
        self._storage_classes = ObjectCache(lambda _: self._resync_all(), keep=keep(STORAGE_CLASSES))
        self._children = {
            kind: ObjectCache(partial(self._child_changed, kind), self._resync_all, keep=keep(kind.resource)) for kind in Kind
        }
        self._cache_of_field = {kind.field: cache for kind, cache in self._children.items()}
        """Field of `Children` -> cache of that kind. Kept, because `children` needs it on every event."""
        self._children[Kind.POD].add_index(_BY_CLAIM, _claims_of_pod)
        self._caches: dict[Resource, ObjectCache] = {
            USER_STORAGES: self._storages,
            USER_STORAGE_CLASSES: self._classes,
            STORAGE_CLASSES: self._storage_classes,
            **{kind.resource: cache for kind, cache in self._children.items()},
        }
        self.shared_claims = ObjectCache(self._shared_claim_changed, keep=shared_claim)
        """The claims that carry the label by which their owner lets UserStorages use them. Only its changes are used: a reconcile
        reads the claim that its spec names."""
        self._user_ids = UserIDIndex(self)
        self._claims = ClaimIndex(self, self._user_ids)
        self._hosts = HostIndex(self, self._user_ids)
        self._quotas = QuotaIndex(self)
        self._sorted = SortedIndex()
        self._storages.add_event_handler(self._index_for_readers)
        self._summaries: dict[Key, tuple[int, Unstructured]] = {}
        """Key -> resourceVersion of a UserStorage and its summary. Kept, because summaries are read far more often than they change."""
        self._user_facing: dict[str, tuple[Any, ...] | None] = {}
        """Name of a class -> the part of the class that concerns its UserStorages."""
        self._default: str | None = None
        """Name of the class of UserStorages without `spec.className`; None for the built-in one."""

    def cache(self, resource: Resource) -> ObjectCache:
        """Return the cache of the resource, for the watch or the sweep that fills it."""
        return self._caches[resource]

    def not_synced(self, namespaces: Iterable[str | None]) -> Iterator[str]:
        """Yield a text such as `pods in team-b` for each list not yet in the caches. No reconcile starts before all are."""
        for resource, cache in self._caches.items():
            yield from map(resource.within, cache.namespaces_not_synced(namespaces if resource.namespaced else (None,)))

    def keys(self) -> list[Key]:
        """Return the keys of all UserStorages."""
        return [Key(*key) for key in self._storages.keys()]  # noqa: SIM118  # not a dict

    def after(self, key: Key | None, query: Query) -> Iterator[Key]:
        """Yield the keys of the UserStorages after `key` by (namespace, name), found by the most selective filter of the query: the
        others have still to be applied.
        """
        return self._sorted.after(key, query.namespace, query.user, query.phase, query.ready)

    def summary(self, key: Key) -> Unstructured | None:
        """Return the summary of a UserStorage for platform backends; None if it does not exist. It is shared between callers: do not
        change it.
        """
        version, known = self._storages.version(key.namespace, key.name), self._summaries.get(key)
        if known is not None and known[0] == version:
            return known[1]
        raw = self.storage(key)
        if raw is None or version is None:
            return None
        self._summaries[key] = (version, found := summary(raw))
        return found

    # The protocol Lister

    def storage(self, key: Key) -> Unstructured | None:
        """Return the raw UserStorage `key`; None if it does not exist."""
        return self._storages.get(key.namespace, key.name)

    def user_id_owner(self, namespace: str, user_id: str, children: Children) -> Unstructured | None:
        """Return the owner of the user id: the UserStorage that controls `children`, else the oldest with this user id.

        None if no UserStorage has it.
        """
        name = self._user_ids.owner(namespace, user_id, owner_uids(children))
        return self.storage(Key(namespace, name)) if name is not None else None

    def claimants(self, namespace: str, use: ClaimUse) -> Iterator[Claimant]:
        """Yield the UserStorages that need a claim, own their user id and conflict with `use`, in order of precedence."""
        return self._claims.wanting.conflicting(namespace, use)

    def is_shareable(self, namespace: str, claim: str) -> bool:
        """Whether the claim exists with the label by which its owner lets UserStorages use it, whatever the value."""
        return self.shared_claims.get(namespace, claim) is not None

    def claim_mounters(self, namespace: str, use: ClaimUse) -> Iterator[Claimant]:
        """Yield the UserStorages whose pod conflicts with `use`, in order of precedence."""
        return self._claims.mounting.conflicting(namespace, use)

    def claim_mounter(self, key: Key) -> Claimant | None:
        """Return the UserStorage `key` with the use of a claim by its pod; None if it has no pod."""
        return self._claims.mounting.get(key)

    def host_taken(self, key: Key) -> bool:
        """Whether another UserStorage owns the host and path that the UserStorage `key` wants, or an overlapping path."""
        return self._hosts.is_taken(key)

    def take_place(self, raw: Unstructured) -> bool:
        """Whether the UserStorage has, or gets now, a place within `limits.maxPerNamespace` of its class."""
        return self._quotas.take_place(raw)

    def classes(self) -> Iterable[Unstructured]:
        """Return all raw UserStorageClasses. They are few and read for each UserStorage, so they stay parsed."""
        return (raw for name in self._classes.keys() if (raw := self._classes.get(*name)) is not None)  # noqa: SIM118  # not a dict

    def binding_modes(self) -> Mapping[str, str]:
        """Return a mapping from the name of each StorageClass to its volumeBindingMode."""
        return {raw["metadata"]["name"]: raw.get("volumeBindingMode", "Immediate") for raw in self._storage_classes.values()}

    def pods_on(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """Return the pods of the namespace that have our label, or were listed without it, and mount the claim."""
        return self._children[Kind.POD].by_index(_BY_CLAIM, (namespace, claim))

    def children(self, namespace: str, name: str) -> Children:
        """Return the objects with the name of the children that have our label, or were listed without it. They may be foreign."""
        return Children(**{field: cache.get(namespace, name) for field, cache in self._cache_of_field.items()})

    def child(self, kind: Kind, namespace: str, name: str) -> Unstructured | None:
        """Return one of the objects that `children` returns."""
        return self._children[kind].get(namespace, name)

    def controllers(self, namespace: str, name: str) -> frozenset[str]:
        """Return the uids of the controllers of the NetworkPolicy, Service and pod with the name of the children."""
        uids = (self._caches[resource].controller(namespace, name) for resource in _MARK_THE_OWNER)
        return frozenset(uid for uid in uids if uid is not None)

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""
        return self._children[kind].served

    def claim_released(self, key: Key, use: ClaimUse) -> None:
        """Requeue the other UserStorages that conflict with `use`: the reservation of the UserStorage `key` is gone."""
        self._enqueue_all(self._claims.released(key, use))

    def put(self, resource: Resource, obj: Unstructured) -> None:
        """Put `obj`, the response to our own write, into the cache of the resource."""
        self._caches[resource].put(obj)
        if resource in _EXPOSURE:
            self._exposure_changed(obj)
        elif resource in _MARK_THE_OWNER:
            self._owners_changed(self._user_ids.update_child(obj))
            if resource is Kind.POD.resource:
                self._enqueue_all(self._claims.update_pod(obj))

    def discard(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Remove the object from the cache of the resource: the API server reported that it no longer exists."""
        self._caches[resource].discard(namespace, name, uid)

    # From changes to affected keys

    def take_crowds(self) -> list[Key]:
        """Return the UserStorages that changes since the last call concern, but that are too many to be requeued on each change."""
        return [*self._user_ids.take_crowds(), *self._claims.take_crowds()]

    def _index_for_readers(self, key: ObjectKey, raw: Unstructured | None) -> None:
        if raw is None:
            self._summaries.pop(Key(*key), None)
            self._sorted.remove(Key(*key))
        else:
            found = summary(raw)
            self._sorted.add(Key(*key), str(found["userID"] or ""), found["phase"], ready=found["ready"])

    def _storage_changed(self, raw: Unstructured) -> None:
        key, user_id = Key.of(raw), raw.get("spec", {}).get("userID")
        exists = self.storage(key) is not None
        if isinstance(user_id, str):
            self._owners_changed(self._user_ids.update(raw, exists=exists))
            self._enqueue_all(self._claims.update(raw, exists=exists))
            self._enqueue_all(self._hosts.update(raw, exists=exists))
            self._enqueue_all(self._quotas.update(raw, exists=exists))
            if not exists:
                policy = self.child(Kind.NETWORK_POLICY, key.namespace, names.child_name(names.slug(user_id)))
                self._enqueue_former_policy(policy)
        self._enqueue(key)

    def _owners_changed(self, changes: Iterable[OwnerChange]) -> None:
        """Requeue all UserStorages with a user id whose owner changed, and those that compete with the old or new owner."""
        for change in changes:
            self._enqueue_all(change.claimants.union(change.owners))
            for raw in self._known(change.owners):
                self._enqueue_all(self._hosts.update(raw, exists=True))
                self._enqueue_all(self._claims.update(raw, exists=True))

    def _exposure_changed(self, child: Unstructured) -> None:
        """Index again the UserStorages whose Ingress or HTTPRoute it is: who is served already keeps the host."""
        for raw in self._known(self._user_ids.affected_keys(child)):
            self._enqueue_all(self._hosts.update(raw, exists=True))

    def _child_changed(self, kind: Kind, child: Unstructured) -> None:
        """Requeue the UserStorage that controls the child, and the owner of the user id, which repairs the child."""
        if kind.resource in _MARK_THE_OWNER:
            self._owners_changed(self._user_ids.update_child(child))
        if kind is Kind.NETWORK_POLICY and self._children[kind].version(*object_key(child)) is not None:
            self._enqueue_former_policy(child)
        elif kind is Kind.POD and self._children[Kind.NETWORK_POLICY].is_terminating(*object_key(child)):
            self._enqueue_former_policy(self.child(Kind.NETWORK_POLICY, *object_key(child)))
        elif kind in EXPOSURE:
            self._exposure_changed(child)
        affected = self._user_ids.affected_keys(child)
        self._enqueue_all(affected)
        if kind in (Kind.SERVICE, Kind.POD):
            for raw in self._known(affected):
                self._enqueue_all(self._quotas.update_child(raw))
        if kind is Kind.POD:
            self._enqueue_all(self._claims.update_pod(child))

    def _shared_claim_changed(self, claim: Unstructured) -> None:
        """Requeue the UserStorages of a claim whose owner lets UserStorages use it: most of them name it, and no other watch has it."""
        exists = self.shared_claims.get(*object_key(claim)) is not None
        self._enqueue_all(self._claims.update_claim(claim, exists=exists))

    def _class_changed(self, raw: Unstructured) -> None:
        """Requeue the class. If the change concerns its UserStorages, requeue them, and all classes.

        A change of only the status of a class, which is frequent, does not concern its UserStorages.
        """
        name = raw["metadata"]["name"]
        self._enqueue_class(name)
        user_facing = _user_facing(raw) if self._classes.get("", name) is not None else None
        if self._user_facing.get(name) == user_facing:
            return
        self._user_facing[name] = user_facing
        for other in list(self.classes()):
            self._enqueue_class(other["metadata"]["name"])
        was_default, default = self._default, choose_class(None, self.classes())
        self._default = default["metadata"]["name"] if default is not None else None
        concerned = (name, None) if name == self._default or self._default != was_default else (name,)
        for storage in self._known(self.keys()):  # each is parsed once: what is read of it stays parsed
            spec = storage.get("spec") or {}
            if spec.get("className") in concerned and isinstance(spec.get("userID"), str):
                self._enqueue_all(self._hosts.update(storage, exists=True))
                self._enqueue_all(self._quotas.update(storage, exists=True))
                self._resync(Key.of(storage))

    def enqueue_classes_and_policies(self) -> None:
        """Queue all classes, and each NetworkPolicy whose UserStorage may be gone. No event has queued what was there before."""
        for cls in list(self.classes()):
            self._enqueue_class(cls["metadata"]["name"])
        for policy in self._children[Kind.NETWORK_POLICY].values():
            self._enqueue_former_policy(policy)

    def _enqueue_former_policy(self, policy: Unstructured | None) -> None:
        """Requeue a NetworkPolicy that waits for its pod, or that no watch shows, under its own name: its UserStorage may be gone."""
        if policy is not None and (is_held(policy) or is_unwatched(policy)):
            self._enqueue(Key(*object_key(policy)))

    def _enqueue_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._enqueue(key)

    def _resync_all(self) -> None:
        for key in self.keys():
            self._resync(key)

    def _known(self, keys: Iterable[Key]) -> Iterator[Unstructured]:
        return (raw for key in keys if (raw := self.storage(key)) is not None)


def _claims_of_pod(pod: Unstructured) -> Iterator[tuple[str, str]]:
    """Yield (namespace, name) of each claim that the pod mounts."""
    return ((pod["metadata"]["namespace"], claim) for claim in mounted_claims(pod))


def _user_facing(cls: Unstructured) -> tuple[Any, ...]:
    """Return the part of a raw class that concerns its UserStorages: uid, generation, and whether it is marked as default."""
    meta = cls["metadata"]
    return meta["uid"], meta["generation"], (meta.get("annotations") or {}).get(names.ANNOTATION_DEFAULT_CLASS)
