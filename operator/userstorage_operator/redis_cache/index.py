"""The index of the mirror: a sorted set in Redis. Each UserStorage is one row, stored as three entries: one sorts by name, one by
user id, and one by phase and readiness.

    n ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ user ∅ seal
    u ∅ user ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ seal
    s ∅ phase ∅ ready ∅ namespace ∅ name ∅ uid ∅ version ∅ user ∅ seal

All entries have score 0, so Redis orders them by their bytes. ∅ is a zero byte: it sorts before every character of a name,
so the order is that of (namespace, name). `user` is a hash of the user id. Filters select ranges of the set or are applied to
rows, so that only the summaries of the requested page are read.
"""

from dataclasses import dataclass
from itertools import product

from userstorage_operator.api.conditions import Phase
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.redis_cache.codec import Codec, Reason, Rejected

ENTRIES_PER_ROW = 3


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

    def members(self, codec: Codec) -> tuple[str, ...]:
        """Return the entries of the sorted set for this UserStorage: sorted by namespace and name, by user id, and by state."""
        name, version = (self.key.namespace, self.key.name), (self.uid, str(self.version))
        state = self.phase, str(int(self.ready))
        seal = codec.short_seal("row", *name, *version, *state, self.user)
        entries = (
            ("n", *name, *version, *state, self.user, seal),
            ("u", self.user, *name, *version, *state, seal),
            ("s", *state, *name, *version, self.user, seal),
        )
        return tuple(map("\0".join, entries))


def parse(member: bytes, codec: Codec) -> Row:
    """Return the row that an entry of the sorted set contains. Raises Rejected if the entry is not valid."""
    try:
        kind, *fields = member.decode().split("\0")
        if kind == "u":
            user, namespace, name, uid, version, phase, ready, _ = fields
        elif kind == "s":
            phase, ready, namespace, name, uid, version, user, _ = fields
        else:
            namespace, name, uid, version, phase, ready, user, _ = fields
        row = Row(Key(namespace, name), uid, int(version), phase, ready == "1", user)
    except ValueError:
        raise Rejected(Reason.GARBAGE) from None
    if member.decode() not in row.members(codec):
        raise Rejected(Reason.SEAL)
    return row


def hashed(user_id: str, codec: Codec) -> str:
    """Return the hash that the index stores instead of the user id `user_id`."""
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
        return cls._within("n" if query.user is None else f"u\0{hashed(query.user, codec)}", query)

    @classmethod
    def of_states(cls, query: Query) -> "list[Range]":
        """Return the ranges that together contain the entries for a query by phase, readiness or both, of whatever user."""
        phases = Phase if query.phase is None else (query.phase,)
        readiness = (False, True) if query.ready is None else (query.ready,)
        return [cls._within(f"s\0{phase}\0{int(ready)}", query) for phase, ready in product(phases, readiness)]

    @classmethod
    def _within(cls, order: str, query: Query) -> "Range":
        """Return the range for the query among the entries that start with `order`."""
        prefix = order if query.namespace is None else f"{order}\0{query.namespace}"
        whole = cls(f"[{prefix}\0", f"({prefix}\1")
        if query.after is None:
            return whole
        after = f"[{order}\0{query.after.namespace}\0{query.after.name}\1"
        return cls(max(whole.first, after), whole.end)

    def after(self, row: Row) -> "Range":
        """Return the part of this range that follows the entry of `row`."""
        order = self.first[1:].split("\0")[0]
        prefix = "n" if order == "n" else f"u\0{row.user}"
        return Range(f"[{prefix}\0{row.key.namespace}\0{row.key.name}\1", self.end)
