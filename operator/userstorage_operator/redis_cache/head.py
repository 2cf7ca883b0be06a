"""The head of the mirror: says which leader writes the index, for which namespaces, and whether the index is complete. A
response from the mirror is as old as the head.
"""

from dataclasses import dataclass

from userstorage_operator.redis_cache.codec import Codec, Entry, Reason, Rejected, Shape, require
from userstorage_operator.redis_cache.keys import Keys

Scopes = tuple[str | None, ...]
"""The namespaces that a process lists and watches; (None,) stands for all namespaces at once."""

_SHAPE: Shape = {"complete": (bool,), "scopes": (list,), "rows": (int,)}


@dataclass(frozen=True, slots=True)
class Head:
    """The head of the mirror, which is written with every batch."""

    term: int
    """Term of the leader that writes the mirror."""
    sequence: int
    """Number of the write, counted from the start of the fill (a complete rewrite of the mirror)."""
    complete: bool
    """Whether the fill is finished."""
    scopes: Scopes
    rows: int
    """Number of entries in the index: two for each UserStorage."""

    def sealed(self, keys: Keys, codec: Codec, time: float) -> bytes:
        """Return the head as the sealed bytes to store in Redis. `time` is the current time in seconds since 1970."""
        value = {"complete": self.complete, "scopes": list(self.scopes), "rows": self.rows}
        return codec.seal(keys.head, Entry(value, resource_version=self.sequence, term=self.term, time=time))

    @classmethod
    def open(cls, data: bytes, keys: Keys, codec: Codec) -> "Head":
        """Return the head that the sealed bytes `data` contain. Raises Rejected if they are not valid."""
        entry = codec.open(keys.head, data)
        if entry.value is None:
            raise Rejected(Reason.GARBAGE)
        fields = entry.value
        require(fields, _SHAPE)
        if not all(scope is None or isinstance(scope, str) for scope in fields["scopes"]):
            raise Rejected(Reason.GARBAGE)
        return cls(entry.term, entry.resource_version, fields["complete"], tuple(fields["scopes"]), fields["rows"])
