"""The head: who keeps the index, of which namespaces, and whether all of it is there. Its age is that of every answer."""

from dataclasses import dataclass

from userstorage_operator.redis_cache.codec import Codec, Entry, Reason, Rejected, Shape, require
from userstorage_operator.redis_cache.keys import Keys

Scopes = tuple[str | None, ...]
"""Namespaces as list and watch want them: (None,) for all at once."""

_SHAPE: Shape = {"complete": (bool,), "scopes": (list,), "rows": (int,)}


@dataclass(frozen=True, slots=True)
class Head:
    """What the mirror says of its work with every write."""

    term: int
    """Of the leader that writes."""
    sequence: int
    """Counts the writes of one fill."""
    complete: bool
    """Whether the fill has come to its end."""
    scopes: Scopes
    rows: int
    """Members of the index."""

    def sealed(self, keys: Keys, codec: Codec, time: float) -> bytes:
        """The bytes to keep."""
        value = {"complete": self.complete, "scopes": list(self.scopes), "rows": self.rows}
        return codec.seal(keys.head, Entry(value, resource_version=self.sequence, term=self.term, time=time))

    @classmethod
    def open(cls, data: bytes, keys: Keys, codec: Codec) -> "Head":
        """The inverse. Raises Rejected."""
        entry = codec.open(keys.head, data)
        if entry.value is None:
            raise Rejected(Reason.GARBAGE)
        fields = entry.value
        require(fields, _SHAPE)
        if not all(scope is None or isinstance(scope, str) for scope in fields["scopes"]):
            raise Rejected(Reason.GARBAGE)
        return cls(entry.term, entry.resource_version, fields["complete"], tuple(fields["scopes"]), fields["rows"])
