"""Rows of the index: members of one sorted set, all of score 0, so that Redis keeps them in the order of their bytes.

    n ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ user ∅ seal
    u ∅ user ∅ namespace ∅ name ∅ uid ∅ version ∅ phase ∅ ready ∅ seal

∅ is a zero byte: it sorts before whatever a name may hold, so the order is that of (namespace, name). `user` is a hash.
Filters are answered from rows; only the views that are shown are read.
"""

from dataclasses import dataclass

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.redis_cache.codec import Codec, Reason, Rejected


@dataclass(frozen=True, slots=True)
class Row:
    """What the index says of one UserStorage."""

    key: Key
    uid: str
    version: int
    phase: str
    ready: bool
    user: str
    """A hash of the user id."""

    @classmethod
    def of(cls, view: Unstructured, codec: Codec) -> "Row":
        """The row of a view."""
        return cls(
            Key(view["namespace"], view["name"]),
            view["uid"],
            int(view["resourceVersion"]),
            view["phase"],
            view["ready"],
            hashed(view["userID"], codec),
        )

    def wanted_by(self, query: Query) -> bool:
        """Whether phase and ready are as asked for; the range has seen to the rest."""
        return (query.phase is None or self.phase == query.phase) and (query.ready is None or self.ready is query.ready)

    def members(self, codec: Codec) -> tuple[str, str]:
        """The row in both orders."""
        place, rest = (self.key.namespace, self.key.name), (self.uid, str(self.version), self.phase, str(int(self.ready)))
        seal = codec.short_seal("row", *place, *rest, self.user)
        return "\0".join(("n", *place, *rest, self.user, seal)), "\0".join(("u", self.user, *place, *rest, seal))


def parse(member: bytes, codec: Codec) -> Row:
    """The row that a member of the index tells. Raises Rejected."""
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
    """A user id as the index has it."""
    return codec.short_seal("user", user_id)


@dataclass(frozen=True, slots=True)
class Range:
    """Members from `first` on, and before `end`, as ZRANGEBYLEX wants them."""

    first: str
    end: str

    @classmethod
    def of_one(cls, key: Key) -> "Range":
        """The row of one UserStorage."""
        prefix = f"n\0{key.namespace}\0{key.name}"
        return cls(f"[{prefix}\0", f"({prefix}\1")

    @classmethod
    def of(cls, query: Query, codec: Codec) -> "Range":
        """The rows that a query is about, but for its phase and ready."""
        order = "n" if query.user is None else f"u\0{hashed(query.user, codec)}"
        prefix = order if query.namespace is None else f"{order}\0{query.namespace}"
        whole = cls(f"[{prefix}\0", f"({prefix}\1")
        if query.after is None:
            return whole
        after = f"[{order}\0{query.after.namespace}\0{query.after.name}\1"
        return cls(max(whole.first, after), whole.end)

    def after(self, row: Row) -> "Range":
        """What follows a row of this range."""
        order = self.first[1:].split("\0")[0]
        prefix = "n" if order == "n" else f"u\0{row.user}"
        return Range(f"[{prefix}\0{row.key.namespace}\0{row.key.name}\1", self.end)
