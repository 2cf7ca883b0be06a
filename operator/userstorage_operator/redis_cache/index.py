"""Rows of the index: members of one sorted set, all of score 0, so that Redis keeps them in the order of their bytes.

    n ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ user ∅ seal
    u ∅ user ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ seal

∅ is a zero byte: it sorts before every character of a name, so the order is that of (namespace, name). `user` is a hash.
Filters are applied to rows; only the summaries of the resulting page are read.
"""

from dataclasses import dataclass

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.redis_cache.codec import Codec, Reason, Rejected


@dataclass(frozen=True, slots=True)
class Row:
    """The index entry of one UserStorage."""

    key: Key
    uid: str
    version: int
    phase: str
    ready: bool
    user: str
    """A hash of the user id."""

    @classmethod
    def of(cls, summary: Unstructured, codec: Codec) -> "Row":
        """Return the row of a summary."""
        return cls(
            Key(summary["namespace"], summary["name"]),
            summary["uid"],
            int(summary["resourceVersion"]),
            summary["phase"],
            summary["ready"],
            hashed(summary["userID"], codec),
        )

    def matches(self, query: Query) -> bool:
        """Whether the row has the phase and readiness of the query; the range covers its other fields."""
        return (query.phase is None or self.phase == query.phase) and (query.ready is None or self.ready is query.ready)

    def members(self, codec: Codec) -> tuple[str, str]:
        """Return the two members of the index for this row: in the order of names, and by user."""
        name, rest = (self.key.namespace, self.key.name), (self.uid, str(self.version), self.phase, str(int(self.ready)))
        seal = codec.short_seal("row", *name, *rest, self.user)
        return "\0".join(("n", *name, *rest, self.user, seal)), "\0".join(("u", self.user, *name, *rest, seal))


def parse(member: bytes, codec: Codec) -> Row:
    """Return the row of a member of the index. Raises Rejected if the member is not valid."""
    try:
        kind, *fields = member.decode().split("\0")
        if kind == "u":
            user, namespace, name, uid, version, phase, ready, _ = fields
        else:
            namespace, name, uid, version, phase, ready, user, _ = fields
        row = Row(Key(namespace, name), uid, int(version), phase, ready == "1", user)
    except ValueError:
        raise Rejected(Reason.GARBAGE) from None
    if member.decode() not in row.members(codec):
        raise Rejected(Reason.SEAL)
    return row


def hashed(user_id: str, codec: Codec) -> str:
    """Return the hash of a user id that the index stores."""
    return codec.short_seal("user", user_id)


@dataclass(frozen=True, slots=True)
class Range:
    """The bounds of a ZRANGEBYLEX: members from `first` (inclusive) to `end` (exclusive)."""

    first: str
    end: str

    @classmethod
    def of_one(cls, key: Key) -> "Range":
        """Return the range that holds the row of one UserStorage."""
        prefix = f"n\0{key.namespace}\0{key.name}"
        return cls(f"[{prefix}\0", f"({prefix}\1")

    @classmethod
    def of(cls, query: Query, codec: Codec) -> "Range":
        """Return the range of a query, without regard to its phase and readiness."""
        order = "n" if query.user is None else f"u\0{hashed(query.user, codec)}"
        prefix = order if query.namespace is None else f"{order}\0{query.namespace}"
        whole = cls(f"[{prefix}\0", f"({prefix}\1")
        if query.after is None:
            return whole
        after = f"[{order}\0{query.after.namespace}\0{query.after.name}\1"
        return cls(max(whole.first, after), whole.end)

    def after(self, row: Row) -> "Range":
        """Return the part of this range that follows a row."""
        order = self.first[1:].split("\0")[0]
        prefix = "n" if order == "n" else f"u\0{row.user}"
        return Range(f"[{prefix}\0{row.key.namespace}\0{row.key.name}\1", self.end)
