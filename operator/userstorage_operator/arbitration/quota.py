"""Which UserStorages fit into `limits.maxPerNamespace` of their class: those with a Service or pod, then the oldest."""

from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import choose_class
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.ranking import IndexKey, Rank, RankedIndex
from userstorage_operator.arbitration.user_id import own_child


class QuotaIndex:
    """The UserStorages of each class with a limit, by namespace and in order of precedence. Every operation takes O(log n).

    Those with a place, a Service or a pod come first, so that an older UserStorage which joins the class later displaces none of
    them. Within both groups the oldest comes first.

    Places are kept in memory only: after a restart the existing children show who has one.
    """

    def __init__(self, lister: Lister) -> None:
        self._lister = lister
        self._ranked = RankedIndex()
        """By namespace and name of the class."""
        self._limited: dict[Key, tuple[IndexKey, int]] = {}
        """UserStorage of a class with a limit -> its place in `_ranked`, and the limit as of its last update."""
        self._granted: dict[Key, tuple[str, IndexKey]] = {}
        """UserStorage with a place, which has perhaps no child yet -> its uid, and namespace and class of the place."""

    def take_place(self, raw: Unstructured) -> bool:
        """Whether the UserStorage has, or gets now, a place of its class. True if the class has no limit."""
        key, name = Key.of(raw), raw["metadata"]["name"]
        limited = self._limited.get(key)
        if limited is None:
            self._granted.pop(key, None)  # if its class gets the limit again, it has no place from before
            return True
        index, limit = limited
        if self._ranked.position(index, name) >= limit:
            return False
        self._granted[key] = raw["metadata"]["uid"], index
        self._ranked.update(index, name, self._rank(raw, index))
        return True

    def update(self, raw: Unstructured, *, exists: bool) -> set[Key]:
        """Index a UserStorage again, after a change of itself, its class, its Service or its pod.

        Return the other UserStorages that may get a place by that, or no longer get one: at most two of each class.
        """
        key = Key.of(raw)
        before, now = self._limited.pop(key, None), self._limit_of(raw) if exists else None
        if not exists:
            self._granted.pop(key, None)
        affected: set[str] = set()
        if before is not None and (now is None or now[0] != before[0]):
            affected |= self._update_rank(*before, key.name, None)
        if now is not None:
            self._limited[key] = now
            affected |= self._update_rank(*now, key.name, self._rank(raw, now[0]))
        return {Key(key.namespace, name) for name in affected if name != key.name}

    def update_child(self, raw: Unstructured) -> set[Key]:
        """Do the same after a change of a child only: those of classes without a limit need nothing."""
        return self.update(raw, exists=True) if Key.of(raw) in self._limited else set()

    def _update_rank(self, index: IndexKey, limit: int, name: str, rank: Rank | None) -> set[str]:
        """Return those who cross the limit: the last within it before the change, or the first beyond it."""
        last, first_beyond = self._ranked.at(index, limit - 1), self._ranked.at(index, limit)
        self._ranked.update(index, name, rank)
        displaced = last is not None and last != name and self._ranked.position(index, last) >= limit
        moves_up = first_beyond is not None and first_beyond != name and self._ranked.position(index, first_beyond) < limit
        found = (last if displaced else None, first_beyond if moves_up else None)
        return {other for other in found if other is not None}

    def _limit_of(self, raw: Unstructured) -> tuple[IndexKey, int] | None:
        cls = choose_class(raw["spec"].get("className"), self._lister.classes())
        limit = ((cls.get("spec") or {}).get("limits") or {}).get("maxPerNamespace") if cls is not None else None
        if cls is None or not isinstance(limit, int):
            return None
        return (raw["metadata"]["namespace"], cls["metadata"]["name"]), limit

    def _rank(self, raw: Unstructured, index: IndexKey) -> Rank:
        meta = raw["metadata"]
        granted = self._granted.get(Key.of(raw)) == (meta["uid"], index)
        has_place = granted or any(own_child(kind, raw, self._lister) is not None for kind in (Kind.SERVICE, Kind.POD))
        return not has_place, meta["creationTimestamp"], meta["uid"]
