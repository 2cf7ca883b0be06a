"""How our finalizer is taken off, whoever does it."""

from collections.abc import Sequence

from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.unstructured import Unstructured


def release_patch(uid: str, finalizers: Sequence[str]) -> list[Unstructured]:
    """The JSON patch that removes ours from an object with these: of this very object, and no other finalizer."""
    path = f"/metadata/finalizers/{finalizers.index(FINALIZER)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": path, "value": FINALIZER},
        {"op": "remove", "path": path},
    ]
