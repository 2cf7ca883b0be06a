"""The removal of our finalizer, by a reconcile or by `userstorage-operator release-finalizers`."""

from collections.abc import Sequence

from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.unstructured import Unstructured


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
