"""An object in a cache, as the JSON of the part of it that is read: a tenth of what the same object takes as dicts and strings."""

import sys
from typing import NamedTuple

import orjson

from userstorage_operator.api.unstructured import Unstructured, version_of
from userstorage_operator.observed.snapshot import controller_uid

ObjectKey = tuple[str, str]
"""Namespace (empty for cluster-scoped objects) and name."""
_OUTSIDE = frozenset({"name", "namespace", "uid", "resourceVersion"})
"""The fields of the metadata that are not in the JSON."""


def object_key(obj: Unstructured) -> ObjectKey:
    """Return namespace and name of a raw object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


class CachedObject(NamedTuple):
    """A cached object. Objects without a change of what is kept differ in their version only."""

    version: int
    uid: str
    controller: str | None
    """uid of the controller, which is asked for on each event of a child."""
    json: bytes
    """The rest of the kept part, without what the key and the first two fields say."""

    @classmethod
    def of(cls, kept: Unstructured) -> "CachedObject":
        """Return the cached object for the kept part of an object."""
        controller = controller_uid(kept)
        meta = {field: value for field, value in kept["metadata"].items() if field not in _OUTSIDE}
        text = orjson.dumps(kept | {"metadata": meta})
        # A copy: orjson does not give back what it has reserved, which is up to three times the length.
        owner = sys.intern(controller) if controller is not None else None  # that of all children of a user
        return cls(version_of(kept), kept["metadata"]["uid"], owner, bytes(memoryview(text)))

    def parse(self, key: ObjectKey) -> Unstructured:
        """Return the kept part of the object that `key` names."""
        obj: Unstructured = orjson.loads(self.json)
        namespace, name = key
        identity = {"name": name, "uid": self.uid, "resourceVersion": str(self.version)}
        obj["metadata"] |= identity | ({"namespace": namespace} if namespace else {})
        return obj
