"""Whose claim it is where several UserStorages name the same: one at a time, whatever their subPaths."""

from userstorage_operator.api import names
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage, named_claim
from userstorage_operator.arbitration.claim_book import ClaimBook
from userstorage_operator.arbitration.conflicts import user_id_conflict
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.claim_usage import mounted_claims, needs_claim
from userstorage_operator.observed.snapshot import is_ours
from userstorage_operator.plan.builders import claim_name


def claim_holder(raw: Unstructured, storage: UserStorage, views: Lister, book: ClaimBook) -> str | None:
    """Name of the UserStorage that comes before this one with the claim: one whose pod mounts it already or is about
    to, else the one that the claim was made for, else the oldest. Objects of the same user have been told apart before.
    """
    claim = claim_name(storage)

    def has(candidate: Unstructured) -> bool:
        return book.has_taken(Key.of(candidate), claim) or _mounts(candidate, claim, views)

    sharing = [other for other in views.same_claim(storage.meta.namespace, claim) if _is_of_another(other, storage, claim)]
    users = {other["spec"]["userID"]: other for other in sharing}
    may_have_pods = {_first_of_user(other, views) for other in users.values()}
    rivals = [other for other in sharing if has(other) or (needs_claim(other) and other["metadata"]["name"] in may_have_pods)]
    if not rivals:
        return None

    def precedence(candidate: Unstructured) -> tuple[bool, bool, str, str]:
        meta = candidate["metadata"]
        return not has(candidate), named_claim(candidate) is not None, meta["creationTimestamp"], meta["uid"]

    first = min((raw, *rivals), key=precedence)
    name: str = first["metadata"]["name"]
    return name if first is not raw else None


def _is_of_another(other: Unstructured, storage: UserStorage, claim: str) -> bool:
    """Whether it is another user's UserStorage that names the claim. The index may be behind."""
    return other["spec"]["userID"] != storage.user_id and (named_claim(other) or _child_name(other)) == claim


def _first_of_user(raw: Unstructured, views: Lister) -> str:
    """Name of the one that may have a pod, of all with the same user."""
    name: str = raw["metadata"]["name"]
    return user_id_conflict(raw, views.children(raw["metadata"]["namespace"], _child_name(raw)), views) or name


def _child_name(raw: Unstructured) -> str:
    return names.child_name(names.slug(raw["spec"]["userID"]))


def _mounts(raw: Unstructured, claim: str, views: Lister) -> bool:
    pod = views.children(raw["metadata"]["namespace"], _child_name(raw)).pod
    return pod is not None and is_ours(pod, raw["metadata"]["uid"]) and claim in mounted_claims(pod)
