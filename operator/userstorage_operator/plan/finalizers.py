"""The removal of our finalizer, by a reconcile or by `userstorage-operator release-finalizers`."""

from collections.abc import Sequence

from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.unstructured import Unstructured


def release_patch(uid: str, finalizers: Sequence[str]) -> list[Unstructured]:
    """Return the JSON patch that removes our finalizer.

    It fails if the object has another uid, or if our finalizer is no longer at its position in the list.
    """
    path = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": path, "value": FINALIZER},
        {"op": "remove", "path": path},
    ]
