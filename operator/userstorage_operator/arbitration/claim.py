"""Which UserStorage holds a claim, or a directory of a claim that many share (docs/semantics.md#shared-claims)."""

from collections.abc import Iterable, Iterator
from heapq import merge
from operator import attrgetter
from typing import Any

from userstorage_operator.api.resources import Kind
from userstorage_operator.api.subpath import comparable
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage, named_claim
from userstorage_operator.arbitration.crowds import Crowds
from userstorage_operator.arbitration.directories import Claimant, DirectoryIndex
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.ranking import IndexKey, Rank
from userstorage_operator.arbitration.user_id import UserIDIndex, own_child
from userstorage_operator.observed.claim_usage import (
    ClaimUse,
    files_use,
    needs_claim,
    serves_one,
    share_of,
    single_node,
    wanted_use,
)
from userstorage_operator.observed.snapshot import controller
from userstorage_operator.plan.child import claim_use

_BY_RANK = attrgetter("rank")
"""Uses have no order, and one UserStorage may be in two of the merged lists, each with another use."""


class ClaimReservations:
    """The use of a claim for which each UserStorage is about to create a pod, also while the pod exists.

    Await nothing between checking that nothing conflicts and `reserve`: otherwise two reconciles could get the same directory.
    """

    def __init__(self, lister: Lister) -> None:
        """`lister.claim_released` is called when a reservation ends."""
        self._lister = lister
        self.index = DirectoryIndex()

    def reserve(self, key: Key, use: ClaimUse) -> None:
        """Reserve the use for the UserStorage. This replaces an earlier reservation."""
        raw = self._lister.storage(key)
        if raw is not None:
            self.index.update(key, _claimant(raw, use))

    def release(self, key: Key) -> None:
        """End the reservation of the UserStorage, if it has one."""
        reserved = self.index.get(key)
        if reserved is not None:
            self.index.update(key, None)
            self._lister.claim_released(key, reserved.use)


def holder(
    raw: Unstructured, storage: UserStorage, claim: Unstructured | None, lister: Lister, reservations: ClaimReservations
) -> Claimant | None:
    """Return the UserStorage that takes precedence over `raw` for its claim or directory; None if `raw` may use it.

    Precedence: a UserStorage whose pod mounts it or is being created, then the one that the claim was created for, then the
    oldest. `raw` must own its user id: UserStorages of the same user are not compared here. `claim` is None if it does not exist
    or was not read. A label that its owner removes must end no pod, so only a claim that one node can mount has one pod.
    """
    key, use, rank = storage.meta.key, claim_use(storage), _rank(raw)
    mounted, reserved = lister.claim_mounter(key), reservations.index.get(key)
    has = any(own is not None and _includes(own.use, use) for own in (mounted, reserved))
    if claim is not None and serves_one(claim) and (single_node(claim) or not has):
        use = ClaimUse(use.claim)
    namespace = key.namespace
    first = _first_of_others(
        merge(lister.claim_mounters(namespace, use), reservations.index.conflicting(namespace, use), key=_BY_RANK),
        storage.user_id,
    )
    if first is None and not has:
        first = _first_of_others(lister.claimants(namespace, use), storage.user_id)
        return first if first is not None and first.rank < rank else None
    return first if first is not None and (not has or first.rank < rank) else None


def _first_of_others(claimants: Iterable[Claimant], user_id: str) -> Claimant | None:
    return next((other for other in claimants if other.user_id != user_id), None)


def _includes(use: ClaimUse, other: ClaimUse) -> bool:
    """Whether a pod with the first use needs no more for the other one."""
    same = comparable(use.directory) == comparable(other.directory)
    return use.claim == other.claim and same and (other.read_only or not use.read_only)


def _claimant(raw: Unstructured, use: ClaimUse) -> Claimant:
    return Claimant(_rank(raw), raw["metadata"]["name"], raw["spec"]["userID"], use)


def _rank(raw: Unstructured) -> Rank:
    meta = raw["metadata"]
    return named_claim(raw) is not None, meta["creationTimestamp"], meta["uid"]


class ClaimIndex:
    """Index of the UserStorages that use each claim: of those that want it, and of those whose pod mounts it."""

    def __init__(self, lister: Lister, user_ids: UserIDIndex) -> None:
        self._lister = lister
        self._user_ids = user_ids
        self.wanting = DirectoryIndex()
        """UserStorages that need a claim and own their user id."""
        self.mounting = DirectoryIndex()
        self._owner_of_pod: dict[IndexKey, Key] = {}
        """Namespace and name of a pod -> the UserStorage in `mounting`."""
        self._pod_of: dict[Key, IndexKey] = {}
        self._claims: dict[IndexKey, tuple[Any, ...]] = {}
        """Namespace and name of a claim with the label -> what its UserStorages depend on."""
        self._serves_one: set[IndexKey] = set()
        self._crowds: Crowds[tuple[str, ClaimUse]] = Crowds()
        """Namespaces, and uses of a claim that the others compete for."""

    def take_crowds(self) -> Iterator[Key]:
        """Yield the UserStorages for which the holder of their claim may have changed, of those that were not all returned."""
        for namespace, use in self._crowds.take():
            users = merge(self.wanting.conflicting(namespace, use), self.mounting.conflicting(namespace, use), key=_BY_RANK)
            yield from (Key(namespace, user.name) for user in users)

    def update(self, raw: Unstructured, *, exists: bool) -> set[Key]:
        """Index a UserStorage that was created, changed or deleted, or that has gained or lost its user id.

        Return the other UserStorages for which the holder of their claim may have changed.
        """
        key, use = Key.of(raw), wanted_use(raw)
        wants = exists and use is not None and needs_claim(raw) and self._user_ids.is_owner(raw)
        before, now = self.wanting.get(key), _claimant(raw, use) if wants and use is not None else None
        affected = self._update_mounting(key)
        if before != now:
            self.wanting.update(key, now)
            for claimant in filter(None, (before, now)):
                affected |= self._affected_by_wanting(key, claimant)
        return affected

    def update_pod(self, pod: Unstructured) -> set[Key]:
        """Index a pod that was created, changed or deleted.

        Return the other UserStorages for which the holder of their claim may have changed.
        """
        meta, owner = pod["metadata"], controller(pod)
        place = meta["namespace"], meta["name"]
        keys = {Key(meta["namespace"], owner["name"])} if owner is not None else set()
        if (former := self._owner_of_pod.get(place)) is not None:
            keys.add(former)
        return set[Key]().union(*map(self._update_mounting, keys))

    def update_claim(self, claim: Unstructured, *, exists: bool) -> set[Key]:
        """Note a claim that carries the label, or does so no longer. Return its first UserStorages if that concerns them."""
        place = claim["metadata"]["namespace"], claim["metadata"]["name"]
        now = _relevant(claim) if exists else None
        if self._claims.get(place) == now:
            return set()
        if now is not None:
            self._claims[place] = now
        else:
            del self._claims[place]
        (self._serves_one.add if exists and serves_one(claim) else self._serves_one.discard)(place)
        whole = ClaimUse(place[1])
        users = merge(self.wanting.conflicting(place[0], whole), self.mounting.conflicting(place[0], whole), key=_BY_RANK)
        return self._crowds.first((place[0], whole), (Key(place[0], user.name) for user in users))

    def released(self, key: Key, use: ClaimUse) -> set[Key]:
        """Return the other UserStorages to requeue when the UserStorage `key` no longer has `use` or has a pod for it.

        Those that wait for `key` or another one anyway are left out.
        """
        namespace, scope, wanted = key.namespace, self._scope(key.namespace, use), self.wanting.get(key)
        whole = scope != use
        mounting = _first_but(key, self.mounting.conflicting(namespace, scope))
        first = next(self.wanting.conflicting(namespace, scope), None)
        if wanted is not None and wanted.use == use and first == wanted and mounting is None and (whole or not use.read_only):
            # What conflicts with this use conflicts with nothing else before it, unless its directory contains this one.
            return self._first(key, scope, self.wanting.above(namespace, scope))
        dominating = self.mounting.conflicting if whole else self.mounting.dominating
        other = _first_but(key, dominating(namespace, scope))
        # If another UserStorage has the user id of `other` by now, that one does not wait for `other`.
        other_wanted = self.wanting.get(Key(namespace, other.name)) if other is not None else None
        if other is not None and other_wanted is not None and wanted is not None and other.rank < wanted.rank:
            # `other` comes first for all but itself: it waits for `key` if it wants more by now than its pod mounts.
            return set() if _includes(other.use, other_wanted.use) else {Key(namespace, other.name)}
        return self._first(key, scope, self.wanting.conflicting(namespace, scope))

    def _affected_by_wanting(self, key: Key, claimant: Claimant) -> set[Key]:
        """Return those over which a claimant that is new or gone takes precedence, unless another one comes before it for all."""
        mounted, scope = self.mounting.get(key), self._scope(key.namespace, claimant.use)
        if mounted is not None and mounted.use == claimant.use:
            return set()
        dominating = self.wanting.conflicting if scope != claimant.use else self.wanting.dominating
        first = _first_but(key, dominating(key.namespace, scope))
        if first is not None and first.rank < claimant.rank:
            return set()
        conflicting = self.wanting.conflicting(key.namespace, scope)
        return self._first(key, scope, (other for other in conflicting if other.rank > claimant.rank))

    def _update_mounting(self, key: Key) -> set[Key]:
        """Index again which claim the pod of the UserStorage mounts. Return the others for which that changes the holder."""
        raw, before = self._lister.storage(key), self.mounting.get(key)
        pod = own_child(Kind.POD, raw, self._lister) if raw is not None else None
        use = files_use(pod) if pod is not None else None
        now = _claimant(raw, use) if raw is not None and use is not None else None
        if before == now:
            return set()
        self.mounting.update(key, now)
        if (place := self._pod_of.pop(key, None)) is not None:
            del self._owner_of_pod[place]
        if pod is not None and now is not None:
            self._pod_of[key] = place = (key.namespace, pod["metadata"]["name"])
            self._owner_of_pod[place] = key
        changed = {claimant.use for claimant in (before, now) if claimant is not None}
        return set[Key]().union(*(self.released(key, use) for use in changed))

    def _first(self, key: Key, scope: ClaimUse, others: Iterable[Claimant]) -> set[Key]:
        """Return the first of the others, but for `key`; the rest is requeued later."""
        keys = (Key(key.namespace, other.name) for other in others if other.name != key.name)
        return self._crowds.first((key.namespace, scope), keys)

    def _scope(self, namespace: str, use: ClaimUse) -> ClaimUse:
        """Return what a use excludes others from: the whole claim, if it serves one UserStorage at a time."""
        return ClaimUse(use.claim) if (namespace, use.claim) in self._serves_one else use


def _first_but(key: Key, claimants: Iterable[Claimant]) -> Claimant | None:
    return next((other for other in claimants if other.name != key.name), None)


def _relevant(claim: Unstructured) -> tuple[Any, ...]:
    meta, spec = claim["metadata"], claim["spec"]
    phase = (claim.get("status") or {}).get("phase")
    return share_of(claim), spec.get("accessModes"), meta["uid"], "deletionTimestamp" in meta, spec.get("volumeName"), phase
