"""Values as they are in Redis: `<resourceVersion> <seal> <JSON>`. The version stands in front for the scripts, which let the
newest win without reading JSON; the seal binds all of it to the key, so that nothing else is taken for it.
"""

import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import NoneType

import orjson

from userstorage_operator.api.unstructured import Unstructured

SCHEMA = 1
LARGEST = 16 * 1024
"""Bytes of a value; what is larger is neither written nor read."""
GONE = 2**53 - 1
"""The version of a tombstone: later than any."""
_SEAL = 64
_SHORT_SEAL = 16


class Reason(StrEnum):
    """Why a value was not taken for what its key promises."""

    TOO_BIG = "too_big"
    GARBAGE = "garbage"
    SCHEMA = "schema"
    OTHER_OBJECT = "other_object"
    SEAL = "seal"
    OUTDATED = "outdated"
    """Older than the index says: a lost write, or an old value put back."""


class Rejected(Exception):
    """A value that is not what its key promises."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with what is to be known about it."""

    value: Unstructured | None
    """None says that there is nothing."""
    uid: str = ""
    resource_version: int = 0
    generation: int = 0
    term: int = 0
    """Of the leader that wrote it; 0 where anybody did."""
    time: float = 0.0
    """When it was so, in seconds since 1970 by the writer's clock."""

    @classmethod
    def of(cls, view: Unstructured, *, term: int, time: float) -> "Entry":
        """The entry of a view."""
        return cls(view, view["uid"], int(view["resourceVersion"]), view["generation"], term, time)


Shape = Mapping[str, tuple[type, ...]]
"""The fields that there must be, and the types that each may have."""

_SHAPE: Shape = {
    "value": (dict, NoneType),
    "uid": (str,),
    "resource_version": (int,),
    "generation": (int,),
    "term": (int,),
    "time": (float,),
}
"""Of an Entry."""


def require(fields: Unstructured, shape: Shape) -> None:
    """A good seal does not say that the writer knew this shape: it may be of another release, and without a signing key
    anybody can make one. Raises Rejected.
    """
    if fields.keys() != shape.keys() or any(type(fields[name]) not in kinds for name, kinds in shape.items()):
        raise Rejected(Reason.GARBAGE)


class Codec:
    """Seals and checks. Without a signing key a seal only tells damage and mix-ups from truth, not forgery."""

    def __init__(self, signing_key: bytes) -> None:
        self._signing_key = signing_key

    def seal(self, key: str, entry: Entry) -> bytes:
        """The bytes to keep at `key`. Raises Rejected where they are too many."""
        body = orjson.dumps({"schema": SCHEMA, **asdict(entry)})
        version = b"%d" % entry.resource_version
        data = b"%b %b %b" % (version, self._mac(key, version, body), body)
        if len(data) > LARGEST:
            raise Rejected(Reason.TOO_BIG)
        return data

    def open(self, key: str, data: bytes, uid: str | None = None) -> Entry:
        """The inverse, where the value is one for `key` and, if asked for, of the object `uid`. Raises Rejected.

        The seal is looked at last: what went wrong is then told with the most precise word.
        """
        if len(data) > LARGEST:
            raise Rejected(Reason.TOO_BIG)
        version, _, rest = data.partition(b" ")
        seal, body = rest[:_SEAL], rest[_SEAL + 1 :]
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Rejected(Reason.GARBAGE) from None
        if not isinstance(fields, dict) or rest[_SEAL : _SEAL + 1] != b" ":
            raise Rejected(Reason.GARBAGE)
        if fields.pop("schema", None) != SCHEMA:
            raise Rejected(Reason.SCHEMA)
        if uid is not None and fields.get("uid") != uid:
            raise Rejected(Reason.OTHER_OBJECT)
        if not hmac.compare_digest(seal, self._mac(key, version, body)):
            raise Rejected(Reason.SEAL)
        require(fields, _SHAPE)
        return Entry(**fields)

    def short_seal(self, *parts: str) -> str:
        """A seal for a row of the index; as good a hash for what must not be readable."""
        return self._digest("\n".join(parts).encode())[:_SHORT_SEAL]

    def _mac(self, key: str, version: bytes, body: bytes) -> bytes:
        return self._digest(b"%b\n%b\n%b" % (key.encode(), version, body)).encode()

    def _digest(self, message: bytes) -> str:
        return hmac.digest(self._signing_key, message, "sha256").hex()
