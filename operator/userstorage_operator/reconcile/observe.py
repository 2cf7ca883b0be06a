"""The first verb: gather all that a pass depends on. No request but for claims that others made (see also lookout.py)."""

from dataclasses import dataclass, replace

from userstorage_operator.api.errors import InvalidSpec, NotFound, OperatorError, QuotaExceeded, Retry
from userstorage_operator.api.names import child_name
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass, choose_class
from userstorage_operator.arbitration import claim, host, quota, user_id
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.observed.claim_usage import ClaimContext
from userstorage_operator.observed.gateway_api import gateway_api_missing
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Children, Snapshot, is_ours
from userstorage_operator.observed.volume_usage import MeasuredVolume
from userstorage_operator.plan.builders import claim_name
from userstorage_operator.plan.planner import pod_loss_reason
from userstorage_operator.reconcile.books import Books
from userstorage_operator.reconcile.ports import Cluster


@dataclass(frozen=True, slots=True)
class Observation:
    """A world and what is wrong with it from the start."""

    snapshot: Snapshot
    status: Unstructured
    """As it stands on the object."""
    spec_error: OperatorError | None
    """Why the spec cannot be acted on."""


class WaitingForChange(OperatorError):
    """Nothing may be done before somebody else moves; the event of that brings the key back."""

    retry = Retry.ON_CHANGE


async def observe(key: Key, views: Lister, cluster: Cluster, books: Books) -> Observation | None:
    """What there is now; None where the UserStorage is gone. Requests come first: whose claim it is holds only until
    the next one.
    """
    raw = views.storage(key)
    if raw is None:
        return None
    storage, spec_error = _parse(raw)
    cls, class_obstacle = _class_of(storage, views)
    children = _own_children(storage, views)
    if (why := _loss_reason(storage, children)) is not None:
        books.starts.lost(key, why)
    starts = books.starts.of(key)
    volume = MeasuredVolume(books.volumes.of(key.namespace, claim_name(storage))) if books.volumes is not None else None
    spec_error = spec_error or class_obstacle
    if storage.meta.deleted_at is not None:
        children, unread = await _with_named_claim(storage, children, cluster)
        around = ClaimContext(claim_read_error=_message_of(unread), binding_modes=views.binding_modes())
        snapshot = Snapshot(storage, cls, children, starts, claim_context=around, volume=volume)
        return Observation(snapshot, raw.get("status") or {}, spec_error=None)
    if (first := user_id.conflict(raw, children, views)) is not None:
        # The children are the other's: nothing is to be done about them here, nor told of them.
        message = f"spec.userID: UserStorage {first!r} of this namespace came first with the same userID"
        snapshot = Snapshot(storage, cls, Children(), starts, claim_context=ClaimContext(claim_read_error=message))
        return Observation(snapshot, raw.get("status") or {}, WaitingForChange(message, "UserIDConflict"))
    if spec_error is None and cls is not None and cls.max_per_namespace is not None:
        spec_error = _class_full(raw, cls.name, cls.max_per_namespace, views, books.places)
    children, unread = await _with_named_claim(storage, children, cluster)
    user = claim.holder(raw, storage, views, books.claims)
    around = ClaimContext(claim_holder=user, claim_read_error=_message_of(unread), binding_modes=views.binding_modes())
    exposure_conflict = _exposure_conflict(raw, cls, views)
    snapshot = Snapshot(
        storage, cls, children, starts, claim_context=around, exposure_conflict=exposure_conflict, volume=volume
    )
    return Observation(snapshot, raw.get("status") or {}, spec_error or unread)


def _own_children(storage: UserStorage, views: Lister) -> Children:
    """Without the claim of our name where the spec names another: that one is not the user's."""
    children = views.children(storage.meta.namespace, child_name(storage.slug))
    return children if storage.storage.claim_name is None else replace(children, pvc=None)


async def _with_named_claim(
    storage: UserStorage, children: Children, cluster: Cluster
) -> tuple[Children, OperatorError | None]:
    """With the claim that the spec names, where it does; the error where that cannot be had."""
    if storage.storage.claim_name is None:
        return children, None
    try:
        named = await cluster.get(Kind.PVC.resource, storage.meta.namespace, storage.storage.claim_name)
    except NotFound:
        return children, None
    except OperatorError as error:
        return children, error
    return replace(children, pvc=named), None


def _loss_reason(storage: UserStorage, children: Children) -> str | None:
    """Once the pod is gone, nothing tells of it any more."""
    if children.pod is None or not is_ours(children.pod, storage.meta.uid):
        return None
    return pod_loss_reason(children.pod)


def _message_of(unread: OperatorError | None) -> str | None:
    return unread.message if unread is not None else None


def _parse(raw: Unstructured) -> tuple[UserStorage, OperatorError | None]:
    """An unreadable spec still has a name, a user and a deletion to serve: defaults stand in for the rest."""
    try:
        return UserStorage.parse(raw), None
    except InvalidSpec as error:
        spec = raw.get("spec")
        user = spec.get("userID") if isinstance(spec, dict) else ""
        return UserStorage.parse(raw | {"spec": {"userID": user if isinstance(user, str) else ""}}), error


def _class_of(storage: UserStorage, views: Lister) -> tuple[UserStorageClass | None, OperatorError | None]:
    raw = choose_class(storage.class_name, views.classes())
    if raw is None and storage.class_name is not None:
        message = f"spec.className: there is no UserStorageClass {storage.class_name!r}"
        return None, WaitingForChange(message, "ClassNotFound")
    try:
        return (UserStorageClass.parse(raw) if raw is not None else BUILT_IN), None
    except InvalidSpec as error:
        return None, error


def _exposure_conflict(raw: Unstructured, cls: UserStorageClass | None, views: Lister) -> Finding | None:
    if cls is None:
        return None
    return gateway_api_missing(cls, served=views.serves(Kind.HTTP_ROUTE)) or host.conflict(raw, cls, views)


def _class_full(raw: Unstructured, class_name: str, limit: int, views: Lister, places: Reservations) -> OperatorError | None:
    if not quota.exceeded(raw, class_name, limit, views, places):
        places.reserve(Key.of(raw), class_name)
        return None
    return QuotaExceeded(
        f"class {class_name!r} allows {limit} UserStorages a namespace (limits.maxPerNamespace), and these are there"
    )
