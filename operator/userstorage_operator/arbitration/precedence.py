"""Who comes first of those of one user, and of those on one claim; and whom an event wakes because that changes.

A user may have thousands of objects, and a claim as many users: an event must not ask all of them again.
"""

from collections.abc import Callable, Iterable

from userstorage_operator.api import names
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, named_claim
from userstorage_operator.arbitration.ranking import IndexKey, Rank, RankedIndex
from userstorage_operator.observed.claim_usage import needs_claim
from userstorage_operator.observed.snapshot import Children, controller_uid, is_ours


class Precedence:
    """Kept by the views. `enqueue(key)` asks one again; `moved(key)` is told of those who came first, and who do now."""

    def __init__(
        self,
        storage: Callable[[Key], Unstructured | None],
        children: Callable[[str, str], Children],
        enqueue: Callable[[Key], None],
        on_owner_change: Callable[[Key], None],
    ) -> None:
        self._storage = storage
        self._children = children
        self._enqueue = enqueue
        self._on_owner_change = on_owner_change
        self._by_user = RankedIndex()
        self._by_claim = RankedIndex()
        self._users: dict[IndexKey, set[str]] = {}
        """User ids by slug. Two that share one are rare, but can be made."""
        self._firsts: dict[IndexKey, str] = {}
        """Names by user: who came first when that was last looked at, and all of the user were told."""

    def first_of_user(self, namespace: str, user_id: str, children: Children) -> str | None:
        """One that has the children, else the oldest."""
        return self._by_user.first((namespace, user_id), _owners(children))

    def is_owner(self, raw: Unstructured) -> bool:
        """Whether it comes first of its user."""
        key = Key.of(raw)
        return self._firsts.get((key.namespace, raw["spec"]["userID"])) == key.name

    def sharing(self, namespace: str, claim: str) -> list[str]:
        """All on the claim."""
        return self._by_claim.names((namespace, claim))

    def claim_released(self, key: Key, claim: str) -> None:
        """Have the others on the claim asked again where one has no pod on it any more, unless it comes first all the same."""
        if not self._is_eligible_first(place := (key.namespace, claim), key.name):
            self._wake(key.namespace, self._by_claim.names(place), but=key.name)

    def affected_keys(self, child: Unstructured) -> set[Key]:
        """Whom a change of the child concerns: the one that has it, and whoever of its user comes first, who mends it."""
        namespace, slug = child["metadata"]["namespace"], names.slug_of_child(child["metadata"]["name"])
        users = [(namespace, user_id) for user_id in self._users.get((namespace, slug or ""), ())]
        found = {self._by_user.named(user, controller_uid(child)) for user in users} | {
            self._firsts.get(user) for user in users
        }
        return {Key(namespace, name) for name in found if name is not None}

    def update(self, raw: Unstructured, *, here: bool) -> None:
        """Take in one that came, changed, or is not here any more, and wake the others whom that concerns."""
        key, user_id, meta = Key.of(raw), raw["spec"]["userID"], raw["metadata"]
        slug, user = names.slug(user_id), (key.namespace, user_id)
        age = (meta["creationTimestamp"], meta["uid"])
        self._by_user.update(user, key.name, age if here else None)
        _keep(self._users, (key.namespace, slug), user_id, here=self._by_user.first(user) is not None)
        self._settle_user(key.namespace, user_id)
        self._settle_claim(key, raw, (not needs_claim(raw), named_claim(raw) is not None, *age) if here else None)

    def _settle_claim(self, key: Key, raw: Unstructured, rank: Rank | None) -> None:
        claim = _claim(raw)
        ahead = self._by_claim.first(claim)
        before = self._by_claim.update(claim, key.name, rank)
        if before == rank:
            return
        led = ahead is not None and ahead != key.name and self._is_eligible_first(claim, ahead)
        if before is None:
            # Behind one that leads nobody, a newcomer may come before others all the same: those behind it.
            concerned = [] if led else self._by_claim.after(claim, key.name)
        elif led and not self._has_pod(raw):
            concerned = [str(ahead)]
        else:
            concerned = self._by_claim.names(claim)
        self._wake(key.namespace, concerned, but=key.name)

    def _settle_user(self, namespace: str, user_id: str) -> None:
        """Have all of a user asked again where another of them comes first now: whoever waits is told for whom."""
        user = (namespace, user_id)
        before, first = self._firsts.get(user), self._by_user.first(user, _owners(self._children_of(namespace, user_id)))
        if first == before:
            return
        if first is None:
            del self._firsts[user]
        else:
            self._firsts[user] = first
        self._wake(namespace, self._by_user.names(user))
        for name in {before, first} - {None}:
            key = Key(namespace, str(name))
            self._on_owner_change(key)
            raw = self._storage(key)
            if raw is not None and before is not None:  # another of the user may have a pod now, and with it a claim
                self._wake(namespace, self._by_claim.names(_claim(raw)), but=name)

    def settle_users(self, child: Unstructured) -> None:
        """Take in that a child by which the files are reached is not as it was."""
        namespace, slug = child["metadata"]["namespace"], names.slug_of_child(child["metadata"]["name"])
        for user_id in self._users.get((namespace, slug or ""), ()):
            self._settle_user(namespace, user_id)

    def _is_eligible_first(self, claim: IndexKey, name: str) -> bool:
        """Whether it comes first with the claim as long as no pod of another is on it."""
        raw = self._storage(Key(claim[0], name))
        if raw is None or self._by_claim.first(claim) != name or not needs_claim(raw):
            return False
        return self.is_owner(raw)

    def _has_pod(self, raw: Unstructured) -> bool:
        pod = self._children_of(raw["metadata"]["namespace"], raw["spec"]["userID"]).pod
        return pod is not None and is_ours(pod, raw["metadata"]["uid"])

    def _children_of(self, namespace: str, user_id: str) -> Children:
        return self._children(namespace, names.child_name(names.slug(user_id)))

    def _wake(self, namespace: str, names_of: Iterable[str], but: str | None = None) -> None:
        for name in names_of:
            if name != but:
                self._enqueue(Key(namespace, name))


def _claim(raw: Unstructured) -> IndexKey:
    """Where a raw UserStorage has its files."""
    return raw["metadata"]["namespace"], named_claim(raw) or names.child_name(names.slug(raw["spec"]["userID"]))


def _owners(children: Children) -> frozenset[str]:
    """The uids of those that have the children by which the files are reached."""
    owners = (controller_uid(child) for child in (children.network_policy, children.service, children.pod) if child is not None)
    return frozenset(uid for uid in owners if uid is not None)


def _keep(index: dict[IndexKey, set[str]], place: IndexKey, what: str, *, here: bool) -> None:
    """Keep an index without empty sets."""
    there = index.setdefault(place, set())
    there.add(what) if here else there.discard(what)
    if not there:
        del index[place]
