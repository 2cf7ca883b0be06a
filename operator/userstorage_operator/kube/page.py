"""A page of a list. The objects that its reader has already are not parsed: nearly all that a sweep lists."""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import orjson

from userstorage_operator.api.unstructured import Unstructured

Known = Callable[[str, str], int | None]
"""Returns the resourceVersion in which the reader of a page has the object (namespace, name); None if it wants the whole object."""


class Page(NamedTuple):
    """The objects of a page."""

    objects: list[Unstructured]
    """Each without apiVersion and kind, which lists leave out; of a known version only namespace, name and resourceVersion."""
    resource_version: str
    following: str
    """What to ask for the next page with; empty for the last one."""


class _ListMeta(msgspec.Struct):
    resource_version: str = msgspec.field(name="resourceVersion")
    following: str = msgspec.field(name="continue", default="")


class _Encoded(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _Identity(msgspec.Struct):
    name: str
    resource_version: str = msgspec.field(name="resourceVersion")
    namespace: str = ""


class _Identified(msgspec.Struct):
    metadata: _Identity


_decode_page = msgspec.json.Decoder(_Encoded).decode
_decode_identity = msgspec.json.Decoder(_Identified).decode


def decode(payload: bytes, known: Known) -> Page:
    """Decode the page. Raises msgspec.DecodeError or orjson.JSONDecodeError if it is no list."""
    page = _decode_page(payload)
    return Page([_object(item, known) for item in page.items], page.metadata.resource_version, page.metadata.following)


def _object(item: msgspec.Raw, known: Known) -> Unstructured:
    identity = _decode_identity(item).metadata
    if str(known(identity.namespace, identity.name)) == identity.resource_version:
        return {
            "metadata": {
                "namespace": identity.namespace,
                "name": identity.name,
                "resourceVersion": identity.resource_version,
            }
        }
    obj: Unstructured = orjson.loads(memoryview(item))
    return obj
