"""Which UserStorages fit into `limits.maxPerNamespace` of their class: those with a Service or pod, then the oldest."""

from itertools import islice

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import choose_class
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.arbitration.user_id import children_of
from userstorage_operator.observed.snapshot import controller_uid


def exceeded(raw: Unstructured, class_name: str, limit: int, lister: Lister, reservations: Reservations) -> bool:
    """Whether `limit` UserStorages of the class come before `raw` in its namespace.

    Those with a reservation, a Service or a pod come first, so that an older UserStorage which joins the class later displaces
    none of them. Within both groups the oldest comes first.
    """
    storages, classes = lister.in_namespace(raw["metadata"]["namespace"]), list(lister.classes())
    if len(storages) <= limit:
        return False  # the usual case, decided without a ranking because every reconcile calls this

    def rank(candidate: Unstructured) -> tuple[bool, str, str]:
        meta, children = candidate["metadata"], children_of(candidate, lister)
        counted = reservations.holds(Key.of(candidate), class_name) or any(
            controller_uid(child) == meta["uid"] for child in (children.service, children.pod) if child is not None
        )
        return not counted, meta["creationTimestamp"], meta["uid"]

    def is_of_class(candidate: Unstructured) -> bool:
        chosen = choose_class(candidate.get("spec", {}).get("className"), classes)
        return chosen is not None and chosen["metadata"]["name"] == class_name

    own_rank = rank(raw)
    before = (other for other in storages if is_of_class(other) and rank(other) < own_rank)
    return sum(1 for _ in islice(before, limit)) == limit
