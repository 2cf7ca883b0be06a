"""Which UserStorage holds a claim. A claim serves one UserStorage at a time, whatever the `subPath` of each."""

from userstorage_operator.api import names
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage, named_claim
from userstorage_operator.arbitration import user_id
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.ranking import IndexKey, RankedIndex
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.arbitration.user_id import UserIDIndex, children_of
from userstorage_operator.observed.claim_usage import mounted_claims, needs_claim
from userstorage_operator.plan.builders import claim_name


def holder(raw: Unstructured, storage: UserStorage, lister: Lister, reservations: Reservations) -> str | None:
    """Return the name of the UserStorage that takes precedence over `raw` for the claim; None if `raw` may use the claim.

    Precedence: a UserStorage whose pod mounts the claim or is being created, then the one that the claim was created for, then
    the oldest. `raw` must own its user id: UserStorages of the same user are not compared here.
    """
    claim = claim_name(storage)

    def has(candidate: Unstructured) -> bool:
        return reservations.holds(Key.of(candidate), claim) or _mounts(candidate, claim, lister)

    others = [other for other in lister.sharing_claim(storage.meta.namespace, claim) if _competes(other, storage, claim)]
    one_of_each_user = {other["spec"]["userID"]: other for other in others}
    can_have_pods = {_user_id_owner(other, lister) for other in one_of_each_user.values()}
    rivals = [other for other in others if has(other) or (needs_claim(other) and other["metadata"]["name"] in can_have_pods)]
    if not rivals:
        return None

    def rank(candidate: Unstructured) -> tuple[bool, bool, str, str]:
        meta = candidate["metadata"]
        return not has(candidate), named_claim(candidate) is not None, meta["creationTimestamp"], meta["uid"]

    first = min((raw, *rivals), key=rank)
    name: str = first["metadata"]["name"]
    return name if first is not raw else None


def _competes(other: Unstructured, storage: UserStorage, claim: str) -> bool:
    """Whether `other` is of another user and uses the claim. This is checked again, because the index may be behind."""
    return other["spec"]["userID"] != storage.user_id and _claim(other) == claim


def _user_id_owner(raw: Unstructured, lister: Lister) -> str:
    """Return the name of the UserStorage that owns the user id of `raw`: of all with this user id, only it may have a pod."""
    name: str = raw["metadata"]["name"]
    return user_id.conflict(raw, children_of(raw, lister), lister) or name


def _mounts(raw: Unstructured, claim: str, lister: Lister) -> bool:
    pod = children_of(raw, lister).owned(Kind.POD, raw["metadata"]["uid"])
    return pod is not None and claim in mounted_claims(pod)


def _claim(raw: Unstructured) -> str:
    """Return the name of the claim that has the files of a raw UserStorage."""
    return named_claim(raw) or names.child_name(names.slug(raw["spec"]["userID"]))


class ClaimIndex:
    """Index of the UserStorages that use each claim, by namespace and name of the claim."""

    def __init__(self, lister: Lister, user_ids: UserIDIndex) -> None:
        self._lister = lister
        self._user_ids = user_ids
        self._claimants = RankedIndex()

    def claimants(self, namespace: str, claim: str) -> list[Key]:
        """Return all UserStorages that use the claim."""
        return [Key(namespace, name) for name in self._claimants.names((namespace, claim))]

    def is_owner(self, key: Key, claim: str) -> bool:
        """Whether the UserStorage gets the claim unless a pod of another UserStorage mounts it."""
        raw = self._lister.storage(key)
        if raw is None or self._claimants.first((key.namespace, claim)) != key.name or not needs_claim(raw):
            return False
        return self._user_ids.is_owner(raw)

    def update(self, raw: Unstructured, *, exists: bool) -> list[Key]:
        """Index a UserStorage that was created, changed or deleted.

        Return the other UserStorages that use the same claim, if its holder may have changed for them.
        """
        key, meta, claim = Key.of(raw), raw["metadata"], _index_key(raw)
        rank = (not needs_claim(raw), named_claim(raw) is not None, meta["creationTimestamp"], meta["uid"]) if exists else None
        if self._claimants.rank(claim, key.name) == rank:
            return []
        first = self._claimants.first(claim)
        previous = self._claimants.update(claim, key.name, rank)
        keeps_owner = first is not None and first != key.name and self.is_owner(Key(key.namespace, first), claim[1])
        if previous is None:
            # If the first in the order cannot have the claim, those after the new one may now have to wait for it.
            names_of_affected = [] if keeps_owner else self._claimants.after(claim, key.name)
        elif keeps_owner and not self._has_pod(raw):
            names_of_affected = [str(first)]
        else:
            names_of_affected = self._claimants.names(claim)
        return [Key(key.namespace, name) for name in names_of_affected if name != key.name]

    def released(self, key: Key, claim: str) -> list[Key]:
        """Return the other UserStorages that use the claim, to requeue them when the pod of the UserStorage `key` is gone.

        Return an empty list if the UserStorage `key` gets the claim again anyway.
        """
        if self.is_owner(key, claim):
            return []
        return [other for other in self.claimants(key.namespace, claim) if other != key]

    def affected_keys(self, raw: Unstructured) -> list[Key]:
        """Return the other UserStorages that use the claim of `raw`, to requeue them when the owner of its user id changes."""
        key = Key.of(raw)
        return [other for other in self.claimants(*_index_key(raw)) if other != key]

    def _has_pod(self, raw: Unstructured) -> bool:
        return children_of(raw, self._lister).owned(Kind.POD, raw["metadata"]["uid"]) is not None


def _index_key(raw: Unstructured) -> IndexKey:
    return raw["metadata"]["namespace"], _claim(raw)
