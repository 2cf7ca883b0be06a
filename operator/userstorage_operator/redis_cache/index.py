"""The index of the mirror: a sorted set in Redis. Each UserStorage is one row, stored as two entries: one sorts by name, the
other by user id.

    n ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ user ∅ seal
    u ∅ user ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ seal

All entries have score 0, so Redis orders them by their bytes. ∅ is a zero byte: it sorts before every character of a name,
so the order is that of (namespace, name). `user` is a hash of the user id. Filters are applied to rows, so that only the
summaries of the requested page are read.
"""

from dataclasses import dataclass

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.redis_cache.codec import Codec, Reason, Rejected


@dataclass(frozen=True, slots=True)
class Row:
    """What the index in Redis has about one UserStorage."""

    key: Key
    uid: str
    version: int
    phase: str
    ready: bool
    user: str
    """A hash of the user id."""

    @classmethod
    def of(cls, summary: Unstructured, codec: Codec) -> "Row":
        """Return the row for the summary of a UserStorage."""
        return cls(
            Key(summary["namespace"], summary["name"]),
            summary["uid"],
            int(summary["resourceVersion"]),
            summary["phase"],
            summary["ready"],
            hashed(summary["userID"], codec),
        )

    def matches(self, query: Query) -> bool:
        """Whether the UserStorage of this row has the phase and readiness of the query. The query's other fields are covered by
        `Range.of`.
        """
        return (query.phase is None or self.phase == query.phase) and (query.ready is None or self.ready is query.ready)

    def members(self, codec: Codec) -> tuple[str, str]:
        """Return the two entries of the sorted set for this UserStorage: one sorts by namespace and name, the other by user id."""
        name, rest = (self.key.namespace, self.key.name), (self.uid, str(self.version), self.phase, str(int(self.ready)))
        seal = codec.short_seal("row", *name, *rest, self.user)
        return "\0".join(("n", *name, *rest, self.user, seal)), "\0".join(("u", self.user, *name, *rest, seal))


def parse(member: bytes, codec: Codec) -> Row:
    """Return the row that an entry of the sorted set contains. Raises Rejected if the entry is not valid."""
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
    """Return the hash that the index stores instead of a user id."""
    return codec.short_seal("user", user_id)


@dataclass(frozen=True, slots=True)
class Range:
    """The bounds of a ZRANGEBYLEX over the index: entries from `first` (inclusive) to `end` (exclusive)."""

    first: str
    end: str

    @classmethod
    def of_one(cls, key: Key) -> "Range":
        """Return the range that contains only one entry: that of the UserStorage `key` by name."""
        prefix = f"n\0{key.namespace}\0{key.name}"
        return cls(f"[{prefix}\0", f"({prefix}\1")

    @classmethod
    def of(cls, query: Query, codec: Codec) -> "Range":
        """Return the range that contains the entries for a query, whatever their phase and readiness."""
        order = "n" if query.user is None else f"u\0{hashed(query.user, codec)}"
        prefix = order if query.namespace is None else f"{order}\0{query.namespace}"
        whole = cls(f"[{prefix}\0", f"({prefix}\1")
        if query.after is None:
            return whole
        after = f"[{order}\0{query.after.namespace}\0{query.after.name}\1"
        return cls(max(whole.first, after), whole.end)

    def after(self, row: Row) -> "Range":
        """Return the part of this range after the entry of `row`."""
        order = self.first[1:].split("\0")[0]
        prefix = "n" if order == "n" else f"u\0{row.user}"
        return Range(f"[{prefix}\0{row.key.namespace}\0{row.key.name}\1", self.end)
