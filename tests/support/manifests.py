"""Manifests for the API server, and the row types of the tables of bad inputs."""

import json
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
ABSENT = object()
"""Marks a manifest without the field `spec`; null is another case."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A spec that must be admitted."""

    name: str
    spec: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """A spec that must be refused with a message that contains `message`: the field's path, or words that name it."""

    name: str
    spec: Any
    message: str


@dataclass(frozen=True, slots=True)
class Change:
    """An update that must be admitted if `message` is None, else refused with a message that contains `message`."""

    name: str
    before: Object
    after: Object
    message: str | None = None
    status: Object | None = None
    """What the operator has reported before the update."""


def storage(namespace: str, spec: Any, name: str = "candidate") -> Object:
    """Return the manifest of a UserStorage."""
    return _manifest("UserStorage", {"name": name, "namespace": namespace}, spec)


def storage_class(name: str, spec: Any) -> Object:
    """Return the manifest of a UserStorageClass."""
    return _manifest("UserStorageClass", {"name": name}, spec)


def to_json(manifest: Object) -> str:
    """Return the manifest as input for kubectl."""
    return json.dumps(manifest)


def _manifest(kind: str, metadata: Object, spec: Any) -> Object:
    manifest = {"apiVersion": "userstorage.dev/v1", "kind": kind, "metadata": metadata}
    return manifest if spec is ABSENT else manifest | {"spec": spec}
