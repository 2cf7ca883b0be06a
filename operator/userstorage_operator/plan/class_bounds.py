"""Labels, annotations and placement of the pod: what the class sets, and what it allows its UserStorages to add.

A key that both set has the value of the class. The keys of the operator win over both (`plan/pod_builder.py`).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.userstorage import PodMetadata, Scheduling, UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass


def raise_if_not_allowed(storage: UserStorage, cls: UserStorageClass) -> None:
    """Raise InvalidSpec, with the reason NotAllowedByClass, if the UserStorage sets a key that its class does not allow."""
    refused = "; ".join(_refusals(storage, cls))
    if refused:
        raise InvalidSpec(refused, "NotAllowedByClass")


def pod_metadata(storage: UserStorage, cls: UserStorageClass) -> PodMetadata:
    """Return the labels and annotations that UserStorage and class add to the pod."""
    own, of_class = storage.pod_metadata, cls.pod_metadata
    return PodMetadata({**own.labels, **of_class.labels}, {**own.annotations, **of_class.annotations})


def placement(storage: UserStorage, cls: UserStorageClass) -> Scheduling:
    """Return where the pod may run: on nodes that both class and UserStorage select, despite the taints that either tolerates."""
    own, of_class = storage.scheduling, cls.scheduling
    if own is None:
        return of_class
    added = (toleration for toleration in own.tolerations if toleration not in of_class.tolerations)
    return Scheduling({**own.node_selector, **of_class.node_selector}, (*of_class.tolerations, *added))


def _refusals(storage: UserStorage, cls: UserStorageClass) -> Iterator[str]:
    metadata = "podMetadata.allowed"
    yield from _refusal(
        "spec.podMetadata.labels", _not_in(storage.pod_metadata.labels, cls.allowed.pod_metadata), cls, metadata
    )
    yield from _refusal(
        "spec.podMetadata.annotations", _not_in(storage.pod_metadata.annotations, cls.allowed.pod_metadata), cls, metadata
    )
    if (own := storage.scheduling) is None:
        return
    allowed = frozenset(cls.allowed.node_selector) - names.CONTROL_PLANE_KEYS
    refused = [key for key in own.node_selector if key not in allowed]
    yield from _refusal("spec.scheduling.nodeSelector", refused, cls, "scheduling.allowed.nodeSelector")
    taints = [_taint(toleration) for toleration in own.tolerations]
    if None in taints:
        yield "spec.scheduling.tolerations: a toleration without a key tolerates every taint, which no class can allow"
    tolerated = frozenset(cls.allowed.tolerations) - names.CONTROL_PLANE_KEYS
    refused = [key for key in taints if key is not None and key not in tolerated]
    yield from _refusal("spec.scheduling.tolerations", refused, cls, "scheduling.allowed.tolerations")


def _refusal(field: str, keys: Iterable[str], cls: UserStorageClass, list_of_class: str) -> Iterator[str]:
    found = ", ".join(map(repr, sorted(keys)))
    if found:
        by = f"class {cls.name!r} ({list_of_class})" if cls.name else "the built-in class, which allows no key"
        yield f"{field}: {found} not allowed by {by}"


def _not_in(keys: Iterable[str], allowed: Iterable[str]) -> list[str]:
    """Return those of the keys that no entry allows. Keys of this operator are never allowed."""
    entries = tuple(allowed)
    prefixes = tuple(entry for entry in entries if entry.endswith("/"))
    return [key for key in keys if key.startswith(f"{names.GROUP}/") or not (key in entries or key.startswith(prefixes))]


def _taint(toleration: Mapping[str, Any]) -> str | None:
    """Return the key of the taint; None if the toleration has no key, and so tolerates every taint."""
    return str(toleration.get("key") or "") or None
