"""Our finalizer: on a UserStorage and its NetworkPolicy, which both outlive the pod (docs/semantics.md#deletion).

A reconcile removes it, or `userstorage-operator release-finalizers`.
"""

from collections.abc import Sequence

from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.unstructured import Unstructured


def has_finalizer(obj: Unstructured) -> bool:
    """Whether our finalizer is on the object."""
    return FINALIZER in (obj["metadata"].get("finalizers") or ())


def is_held(obj: Unstructured) -> bool:
    """Whether the object is being deleted and our finalizer keeps it."""
    return "deletionTimestamp" in obj["metadata"] and has_finalizer(obj)


def selects(policy: Unstructured, pod: Unstructured) -> bool:
    """Whether the pod has the labels that a NetworkPolicy of ours selects."""
    wanted = policy["spec"].get("podSelector", {}).get("matchLabels") or {}
    return wanted.items() <= (pod["metadata"].get("labels") or {}).items()


def release_patch(uid: str, finalizers: Sequence[str]) -> list[Unstructured]:
    """Return the JSON patch that removes our finalizer from a UserStorage whose metadata has `uid` and `finalizers`.

    The API server refuses the patch if the uid differs, or if our finalizer is no longer at its position in `finalizers`.
    """
    path = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": path, "value": FINALIZER},
        {"op": "remove", "path": path},
    ]
