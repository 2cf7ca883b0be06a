"""What other UserStorages mean for one: who of several has the user, the host, a place in the namespace."""

from itertools import islice

from userstorage_operator.api.names import child_name, slug
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import Expose, UserStorageClass, choose_class
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.place_book import PlaceBook
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Children, controller_uid, is_ours
from userstorage_operator.plan.exposure import HostPath, served_host, wanted_host


def user_id_conflict(raw: Unstructured, children: Children, views: Lister) -> str | None:
    """Name of another object of the same user that comes first: the one that has the children, else the oldest.

    Age alone would not do: it is told in whole seconds, and of two objects of one second the one that acted first may
    have the later uid.
    """
    first = views.first_of_user(raw["metadata"]["namespace"], _user_id(raw), children)
    if first is None or first["metadata"]["uid"] == raw["metadata"]["uid"]:
        return None
    name: str = first["metadata"]["name"]
    return name


def quota_exceeded(raw: Unstructured, class_name: str, limit: int, views: Lister, places: PlaceBook) -> bool:
    """Whether the namespace has as many of the class without this one. Those that were let in or have a Service or a pod
    come first, so that none in use is turned out by one that joins the class later; then the oldest.
    """
    everybody, classes = views.in_namespace(raw["metadata"]["namespace"]), list(views.classes())
    if len(everybody) <= limit:
        return False  # the usual case, told apart cheaply: this is asked in every pass

    def precedence(candidate: Unstructured) -> tuple[bool, str, str]:
        meta, children = candidate["metadata"], _children(candidate, views)
        made = places.holds(Key.of(candidate), class_name) or any(
            controller_uid(child) == meta["uid"] for child in (children.service, children.pod) if child is not None
        )
        return not made, meta["creationTimestamp"], meta["uid"]

    def of_the_class(candidate: Unstructured) -> bool:
        chosen = choose_class(candidate.get("spec", {}).get("className"), classes)
        return chosen is not None and chosen["metadata"]["name"] == class_name

    place = precedence(raw)
    before = (other for other in everybody if of_the_class(other) and precedence(other) < place)
    return sum(1 for _ in islice(before, limit)) == limit


def host_conflict(raw: Unstructured, cls: UserStorageClass, views: Lister) -> Finding | None:
    """What stands in the way of the Ingress or HTTPRoute that the class asks for, other than the object itself."""
    if cls.exposure.expose is Expose.CLUSTER_IP:
        return None
    if cls.exposure.expose is Expose.GATEWAY and not views.serves(Kind.HTTP_ROUTE):
        message = "the cluster does not serve HTTPRoutes (gateway.networking.k8s.io/v1): the Gateway API is not installed"
        return Finding("GatewayAPIMissing", message)
    at = wanted_host(raw, views.classes())
    if at is None:
        return None

    def precedence(candidate: Unstructured) -> tuple[bool, str, str]:
        meta = candidate["metadata"]
        return not _holds(at, candidate, views), meta["creationTimestamp"], meta["uid"]

    if min([raw, *views.same_host(Key.of(raw))], key=precedence) is raw:
        return None
    # Not whose it is: the other may be another tenant, whose name and namespace are not ours to tell.
    return Finding("HostConflict", f"another UserStorage has the host {at.host!r} with the path {at.path!r}")


def _holds(at: HostPath, candidate: Unstructured, views: Lister) -> bool:
    """Whether an Ingress or HTTPRoute of this UserStorage leads in there already: who is in stays in."""
    children = _children(candidate, views)
    ways = (getattr(children, kind.field) for kind in EXPOSURE)
    return any(way is not None and is_ours(way, candidate["metadata"]["uid"]) and served_host(way) == at for way in ways)


def _children(raw: Unstructured, views: Lister) -> Children:
    return views.children(raw["metadata"]["namespace"], child_name(slug(_user_id(raw))))


def _user_id(raw: Unstructured) -> str:
    user_id = (raw.get("spec") or {}).get("userID")
    return user_id if isinstance(user_id, str) else ""
