"""Which UserStorage owns a user id in a namespace: that which controls the children of the user, else the oldest."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from userstorage_operator.api import names
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.crowds import Crowds
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.ranking import IndexKey, RankedIndex
from userstorage_operator.observed.snapshot import Children, controller_uid, is_ours


def conflict(raw: Unstructured, children: Children, lister: Lister) -> str | None:
    """Return the name of the other UserStorage that owns the user id of `raw`; None if `raw` owns it.

    Age alone does not decide: a creationTimestamp has whole seconds. If two UserStorages are created in the same second, the
    one that was reconciled first may have the later uid.
    """
    owner = lister.user_id_owner(raw["metadata"]["namespace"], _user_id(raw), children)
    if owner is None or owner["metadata"]["uid"] == raw["metadata"]["uid"]:
        return None
    name: str = owner["metadata"]["name"]
    return name


def children_of(raw: Unstructured, lister: Lister) -> Children:
    """Return the children of the user of `raw`. They may belong to another UserStorage of the same user."""
    return lister.children(raw["metadata"]["namespace"], names.child_name(names.slug(_user_id(raw))))


def child_of(kind: Kind, raw: Unstructured, lister: Lister) -> Unstructured | None:
    """Return one of the children that `children_of` returns. The others are not parsed for that."""
    return lister.child(kind, raw["metadata"]["namespace"], names.child_name(names.slug(_user_id(raw))))


def own_child(kind: Kind, raw: Unstructured, lister: Lister) -> Unstructured | None:
    """Return that child if the UserStorage `raw` controls it; else None."""
    child = child_of(kind, raw, lister)
    return child if child is not None and is_ours(child, raw["metadata"]["uid"]) else None


@dataclass(frozen=True, slots=True)
class OwnerChange:
    """A change of the UserStorage that owns a user id. None stands for no owner."""

    previous: Key | None
    owner: Key | None
    claimants: set[Key]
    """The first UserStorages with the user id: the status of those that wait names the owner, so it has to change. `take_crowds`
    returns the others.
    """

    @property
    def owners(self) -> Iterator[Key]:
        """The previous and the new owner, as far as they exist."""
        return (key for key in (self.previous, self.owner) if key is not None)


class UserIDIndex:
    """Index of the UserStorages with each user id, and which of them owns it. Only the owner gets a pod, a claim and a host."""

    def __init__(self, lister: Lister) -> None:
        self._lister = lister
        self._claimants = RankedIndex()
        self._user_ids: dict[IndexKey, set[str]] = {}
        """Namespace and slug -> user ids. Two user ids with the same slug are rare, but possible."""
        self._owners: dict[IndexKey, str] = {}
        """Namespace and user id -> name of the owner, as of the last update."""
        self._crowds: Crowds[IndexKey] = Crowds()
        """Namespaces and user ids."""

    def take_crowds(self) -> Iterator[Key]:
        """Yield the UserStorages with each user id whose owner has changed, of those that were not all in an OwnerChange."""
        for user in self._crowds.take():
            yield from self._all(user)

    def owner(self, namespace: str, user_id: str, controllers: frozenset[str]) -> str | None:
        """Return the name of the UserStorage with a uid in `controllers`, those of the children, else of the oldest; None without any."""
        return self._claimants.first((namespace, user_id), controllers)

    def is_owner(self, raw: Unstructured) -> bool:
        """Whether the UserStorage owned its user id after the last call of `update` or `update_child`."""
        key = Key.of(raw)
        return self._owners.get((key.namespace, raw["spec"]["userID"])) == key.name

    def update(self, raw: Unstructured, *, exists: bool) -> list[OwnerChange]:
        """Index a UserStorage that was created, changed or deleted. Return the change of owner, or none."""
        key, user_id, meta = Key.of(raw), raw["spec"]["userID"], raw["metadata"]
        user = (key.namespace, user_id)
        self._claimants.update(user, key.name, (meta["creationTimestamp"], meta["uid"]) if exists else None)
        self._update_slug((key.namespace, names.slug(user_id)), user, exists=exists)
        return self._settle([user])

    def update_child(self, child: Unstructured) -> list[OwnerChange]:
        """Determine the owner of the user id again after a NetworkPolicy, Service or pod was created, changed or deleted.

        Return each change of owner.
        """
        return self._settle(self._users_of(child))

    def affected_keys(self, child: Unstructured) -> set[Key]:
        """Return the keys of the UserStorage that controls the child and of the owner of the user id, which repairs it."""
        users = self._users_of(child)
        found = {self._claimants.name_of(user, controller_uid(child)) for user in users} | {
            self._owners.get(user) for user in users
        }
        return {Key(child["metadata"]["namespace"], name) for name in found if name is not None}

    def _settle(self, users: Iterable[IndexKey]) -> list[OwnerChange]:
        """Determine the owners of these user ids again. Return each change of owner."""
        changes = []
        for user in users:
            namespace, user_id = user
            controllers = self._lister.controllers(namespace, names.child_name(names.slug(user_id)))
            previous, owner = self._owners.get(user), self.owner(namespace, user_id, controllers)
            if owner == previous:
                continue
            if owner is None:
                del self._owners[user]
            else:
                self._owners[user] = owner
            claimants = self._crowds.first(user, self._all(user))
            changes.append(OwnerChange(_key(namespace, previous), _key(namespace, owner), claimants))
        return changes

    def _all(self, user: IndexKey) -> Iterator[Key]:
        return (Key(user[0], name) for _, name in self._claimants.ranked(user))

    def _users_of(self, child: Unstructured) -> list[IndexKey]:
        """Return (namespace, user id) of the users whose children have the name of `child`."""
        namespace, slug = child["metadata"]["namespace"], names.slug_of_child(child["metadata"]["name"])
        return [(namespace, user_id) for user_id in self._user_ids.get((namespace, slug or ""), ())]

    def _update_slug(self, slug: IndexKey, user: IndexKey, *, exists: bool) -> None:
        if exists:
            self._user_ids.setdefault(slug, set()).add(user[1])
        elif self._claimants.first(user) is None and (user_ids := self._user_ids.get(slug)) is not None:
            user_ids.discard(user[1])
            if not user_ids:
                del self._user_ids[slug]


def _key(namespace: str, name: str | None) -> Key | None:
    return Key(namespace, name) if name is not None else None


def owner_uids(children: Children) -> frozenset[str]:
    """Return the uids of the UserStorages that control the NetworkPolicy, Service and pod."""
    uids = (controller_uid(child) for child in (children.network_policy, children.service, children.pod) if child is not None)
    return frozenset(uid for uid in uids if uid is not None)


def _user_id(raw: Unstructured) -> str:
    """Return `spec.userID`; empty if it is missing or not a string."""
    user_id = (raw.get("spec") or {}).get("userID")
    return user_id if isinstance(user_id, str) else ""
