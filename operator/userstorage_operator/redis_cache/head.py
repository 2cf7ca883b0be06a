"""The head of the mirror: which leader writes the index, for which namespaces, and whether the index is complete. The age of
the head is the age of every response.
"""

from dataclasses import dataclass

from userstorage_operator.redis_cache.codec import Codec, Entry, Reason, Rejected, Shape, require
from userstorage_operator.redis_cache.keys import Keys

Scopes = tuple[str | None, ...]
"""The namespaces that are listed and watched; (None,) stands for all namespaces at once."""

_SHAPE: Shape = {"complete": (bool,), "scopes": (list,), "rows": (int,)}


@dataclass(frozen=True, slots=True)
class Head:
    """The state of the mirror, written with every batch."""

    term: int
    """Term of the leader that writes."""
    sequence: int
    """Number of the write, counted from the start of the fill (a complete rewrite of the mirror)."""
    complete: bool
    """Whether the fill is finished."""
    scopes: Scopes
    rows: int
    """Number of entries in the index: two for each UserStorage."""

    def sealed(self, keys: Keys, codec: Codec, time: float) -> bytes:
        """Return the bytes to store in Redis."""
        value = {"complete": self.complete, "scopes": list(self.scopes), "rows": self.rows}
        return codec.seal(keys.head, Entry(value, resource_version=self.sequence, term=self.term, time=time))

    @classmethod
    def open(cls, data: bytes, keys: Keys, codec: Codec) -> "Head":
        """Return the head in `data`. Raises Rejected if it is not valid."""
        entry = codec.open(keys.head, data)
        if entry.value is None:
            raise Rejected(Reason.GARBAGE)
        fields = entry.value
        require(fields, _SHAPE)
        if not all(scope is None or isinstance(scope, str) for scope in fields["scopes"]):
            raise Rejected(Reason.GARBAGE)
        return cls(entry.term, entry.resource_version, fields["complete"], tuple(fields["scopes"]), fields["rows"])
