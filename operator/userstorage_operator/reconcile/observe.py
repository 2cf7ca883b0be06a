"""The first verb: gather all that a pass depends on. No request but for claims that others made (see also lookout.py)."""

from dataclasses import dataclass, replace

from userstorage_operator.api.errors import ClassFull, InvalidSpec, NotFound, OperatorError, Retry
from userstorage_operator.api.names import child_name
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Object
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass, choose_class
from userstorage_operator.arbitration.claim import claim_user
from userstorage_operator.arbitration.conflicts import is_full, rival, why_not_exposed
from userstorage_operator.arbitration.lister import Views
from userstorage_operator.arbitration.place_book import PlaceBook
from userstorage_operator.observed.claim_usage import Surroundings
from userstorage_operator.observed.snapshot import Children, World, is_ours
from userstorage_operator.observed.volume_usage import Measured
from userstorage_operator.plan.builders import claim_name
from userstorage_operator.plan.planner import why_lost
from userstorage_operator.reconcile.books import Books
from userstorage_operator.reconcile.ports import Cluster


@dataclass(frozen=True, slots=True)
class Seen:
    """A world and what is wrong with it from the start."""

    world: World
    status: Object
    """As it stands on the object."""
    obstacle: OperatorError | None
    """Why the spec cannot be acted on."""


class Blocked(OperatorError):
    """Nothing may be done before somebody else moves; the event of that brings the key back."""

    retry = Retry.ON_CHANGE


async def observe(key: Key, views: Views, cluster: Cluster, books: Books) -> Seen | None:
    """What there is now; None where the UserStorage is gone. Requests come first: whose claim it is holds only until
    the next one.
    """
    raw = views.storage(key)
    if raw is None:
        return None
    storage, obstacle = _parse(raw)
    cls, class_obstacle = _class_of(storage, views)
    children = _own_children(storage, views)
    if (why := _why_lost(storage, children)) is not None:
        books.starts.lost(key, why)
    starts = books.starts.of(key)
    volume = Measured(books.volumes.of(key.namespace, claim_name(storage))) if books.volumes is not None else None
    obstacle = obstacle or class_obstacle
    if storage.meta.deleted_at is not None:
        children, unread = await _with_named_claim(storage, children, cluster)
        around = Surroundings(claim_not_read=_why(unread), binding_modes=views.binding_modes())
        world = World(storage, cls, children, starts, surroundings=around, volume=volume)
        return Seen(world, raw.get("status") or {}, obstacle=None)
    if (first := rival(raw, children, views)) is not None:
        # The children are the other's: nothing is to be done about them here, nor told of them.
        message = f"spec.userID: UserStorage {first!r} of this namespace came first with the same userID"
        world = World(storage, cls, Children(), starts, surroundings=Surroundings(claim_not_read=message))
        return Seen(world, raw.get("status") or {}, Blocked(message, "UserIDConflict"))
    if obstacle is None and cls is not None and cls.max_per_namespace is not None:
        obstacle = _class_full(raw, cls.name, cls.max_per_namespace, views, books.places)
    children, unread = await _with_named_claim(storage, children, cluster)
    user = claim_user(raw, storage, views, books.claims)
    around = Surroundings(claim_user=user, claim_not_read=_why(unread), binding_modes=views.binding_modes())
    not_exposed = why_not_exposed(raw, cls, views) if cls is not None else None
    world = World(storage, cls, children, starts, surroundings=around, not_exposed=not_exposed, volume=volume)
    return Seen(world, raw.get("status") or {}, obstacle or unread)


def _own_children(storage: UserStorage, views: Views) -> Children:
    """Without the claim of our name where the spec names another: that one is not the user's."""
    children = views.children(storage.meta.namespace, child_name(storage.slug))
    return children if storage.storage.claim_name is None else replace(children, claim=None)


async def _with_named_claim(
    storage: UserStorage, children: Children, cluster: Cluster
) -> tuple[Children, OperatorError | None]:
    """With the claim that the spec names, where it does; the error where that cannot be had."""
    if storage.storage.claim_name is None:
        return children, None
    try:
        claim = await cluster.get(Kind.CLAIM.resource, storage.meta.namespace, storage.storage.claim_name)
    except NotFound:
        return children, None
    except OperatorError as error:
        return children, error
    return replace(children, claim=claim), None


def _why_lost(storage: UserStorage, children: Children) -> str | None:
    """Once the pod is gone, nothing tells of it any more."""
    if children.pod is None or not is_ours(children.pod, storage.meta.uid):
        return None
    return why_lost(children.pod)


def _why(unread: OperatorError | None) -> str | None:
    return unread.message if unread is not None else None


def _parse(raw: Object) -> tuple[UserStorage, OperatorError | None]:
    """An unreadable spec still has a name, a user and a deletion to serve: defaults stand in for the rest."""
    try:
        return UserStorage.parse(raw), None
    except InvalidSpec as error:
        spec = raw.get("spec")
        user_id = spec.get("userID") if isinstance(spec, dict) else ""
        return UserStorage.parse(raw | {"spec": {"userID": user_id if isinstance(user_id, str) else ""}}), error


def _class_of(storage: UserStorage, views: Views) -> tuple[UserStorageClass | None, OperatorError | None]:
    raw = choose_class(storage.class_name, views.classes())
    if raw is None and storage.class_name is not None:
        message = f"spec.className: there is no UserStorageClass {storage.class_name!r}"
        return None, Blocked(message, "ClassNotFound")
    try:
        return (UserStorageClass.parse(raw) if raw is not None else BUILT_IN), None
    except InvalidSpec as error:
        return None, error


def _class_full(raw: Object, class_name: str, limit: int, views: Views, places: PlaceBook) -> OperatorError | None:
    if not is_full(raw, class_name, limit, views, places):
        places.take(Key.of(raw), class_name)
        return None
    return ClassFull(
        f"class {class_name!r} allows {limit} UserStorages a namespace (limits.maxPerNamespace), and these are there"
    )
