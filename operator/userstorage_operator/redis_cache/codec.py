"""The format of values in Redis: `<resourceVersion> <seal> <JSON>`.

The version comes first so that the Lua scripts can let the newest value win without parsing JSON. The seal is an HMAC over
the key, the version and the JSON, so that the value of another key is rejected.
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
"""Maximum size of a value in bytes. A larger value is neither written nor read."""
GONE = 2**53 - 1
"""The version of a tombstone, the entry of a deleted object: later than that of any object."""
_SEAL = 64
_SHORT_SEAL = 16


class Reason(StrEnum):
    """Why a value from Redis was rejected: a label value of `userstorage_cache_rejected_total`."""

    TOO_BIG = "too_big"
    GARBAGE = "garbage"
    SCHEMA = "schema"
    OTHER_OBJECT = "other_object"
    SEAL = "seal"
    OUTDATED = "outdated"
    """Older than the version in the index, or the size of the index is not what the head says: a write was lost, or an old
    value was restored.
    """


class Rejected(Exception):
    """A value from Redis is not valid for its key."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """A value in Redis with its metadata."""

    value: Unstructured | None
    """The stored fields, such as a summary. None says that the object does not exist in the cluster."""
    uid: str = ""
    resource_version: int = 0
    generation: int = 0
    term: int = 0
    """Term of the leader that wrote the value; 0 if another replica wrote it."""
    time: float = 0.0
    """When the value was current, in seconds since 1970 by the writer's clock."""

    @classmethod
    def of(cls, summary: Unstructured, *, term: int, time: float) -> "Entry":
        """Return the entry for the summary of a UserStorage."""
        return cls(summary, summary["uid"], int(summary["resourceVersion"]), summary["generation"], term, time)


Shape = Mapping[str, tuple[type, ...]]
"""Name of each required field -> the types that it may have."""

_SHAPE: Shape = {
    "value": (dict, NoneType),
    "uid": (str,),
    "resource_version": (int,),
    "generation": (int,),
    "term": (int,),
    "time": (float,),
}
"""The shape of an Entry."""


def require(fields: Unstructured, shape: Shape) -> None:
    """Check that `fields` has exactly the fields and types of `shape`. Raises Rejected otherwise.

    A valid seal does not prove the shape: the writer may be of another release, and without a signing key every client of
    Redis can compute a seal.
    """
    if fields.keys() != shape.keys() or any(type(fields[name]) not in kinds for name, kinds in shape.items()):
        raise Rejected(Reason.GARBAGE)


class Codec:
    """Seals values and checks seals. Without a signing key a seal detects damage and mixed-up keys, but no forgery."""

    def __init__(self, signing_key: bytes) -> None:
        self._signing_key = signing_key

    def seal(self, key: str, entry: Entry) -> bytes:
        """Return `entry` as the sealed bytes to store at the Redis key `key`. Raises Rejected if they are more than LARGEST."""
        body = orjson.dumps({"schema": SCHEMA, **asdict(entry)})
        version = b"%d" % entry.resource_version
        data = b"%b %b %b" % (version, self._mac(key, version, body), body)
        if len(data) > LARGEST:
            raise Rejected(Reason.TOO_BIG)
        return data

    def open(self, key: str, data: bytes, uid: str | None = None) -> Entry:
        """Return the entry in `data`, the bytes that Redis has at `key`. Raises Rejected if they were not sealed for `key`, or
        if `uid` is given and the entry has another uid.

        The seal is checked after the schema and the uid, so that `Rejected.reason` is as precise as possible.
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
        """Return a short HMAC over `parts`. It is the seal of an entry of the index, or the hash that replaces a user id there."""
        return self._digest("\n".join(parts).encode())[:_SHORT_SEAL]

    def _mac(self, key: str, version: bytes, body: bytes) -> bytes:
        return self._digest(b"%b\n%b\n%b" % (key.encode(), version, body)).encode()

    def _digest(self, message: bytes) -> str:
        return hmac.digest(self._signing_key, message, "sha256").hex()
