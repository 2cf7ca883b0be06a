"""How the UserStorages of each class stand, as the last pass over each found them. In memory, and made anew at a start:
until every UserStorage has been looked at once, no rollout goes on and no count is told.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.status.rollout import MemberState, WaitingFor, unavailable_budget


@dataclass(slots=True)
class _Class:
    members: dict[Key, MemberState] = field(default_factory=dict)
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    """By the generation of the class that the pass saw."""
    waiting: dict[WaitingFor, dict[Key, None]] = field(default_factory=lambda: {waits: {} for waits in WaitingFor})
    """In the order in which they came."""
    max_unavailable: str = "1"

    def sum(self, count: str) -> int:
        return sum(counted[count] for counted in self.counts.values())

    def free(self) -> int:
        """How many more may be taken down."""
        return unavailable_budget(self.max_unavailable, self.sum("running")) - self.sum("unavailable")

    def enter(self, key: Key, standing: MemberState) -> None:
        self.members[key] = standing
        self.counts.setdefault(standing.class_generation, Counter()).update(_counted(standing))
        for waits, keys in self.waiting.items():
            if standing.waiting_for is waits:
                keys.setdefault(key)
            else:
                keys.pop(key, None)

    def leave(self, key: Key) -> None:
        standing = self.members.pop(key)
        counted = self.counts[standing.class_generation]
        counted.subtract(_counted(standing))
        if not counted["users"]:
            del self.counts[standing.class_generation]
        for keys in self.waiting.values():
            keys.pop(key, None)


def _counted(standing: MemberState) -> dict[str, int]:
    counted = {
        "users": True,
        "running": standing.running,
        "unavailable": standing.running and not standing.available,
        "updated": standing.updated,
        "pending": standing.outdated,
        "deferred": standing.deferred,
        "failed": standing.failed,
    }
    return {name: int(counts) for name, counts in counted.items()}  # a lone True would reach the status as `true`


class RolloutTracker:
    """Kept by the reconciler of the UserStorages; read by that of the classes."""

    def __init__(self, wake: Callable[[Key], None], changed: Callable[[str], None]) -> None:
        """`wake(key)`: it may be its turn. `changed(name)`: the counts of a class are not what they were."""
        self._wake = wake
        self._changed = changed
        self._classes: dict[str, _Class] = {}
        self._class_of: dict[Key, str] = {}
        self._unseen: set[Key] = set()

    def expect(self, keys: Iterable[Key]) -> None:
        """What there is at the start: how many of these are ready has to be known before one is taken down."""
        self._unseen.update(keys)

    def mark_observed(self, key: Key) -> None:
        """A pass over it has ended, however it ended: one key that cannot be read must not hold up every rollout."""
        if self._unseen:
            self._unseen.discard(key)
            if self.complete:
                for members in self._classes.values():
                    self._next_in_turn(members)

    @property
    def complete(self) -> bool:
        """Whether the counts tell of everybody."""
        return not self._unseen

    def counts(self, class_name: str, generation: int) -> Counter[str]:
        """users, running, unavailable, updated, pending, deferred and failed of a class. Whoever was not looked at since
        the class is what it is now has the class as it was: pending.
        """
        told: Counter[str] = Counter()
        for seen, counted in self._classes.get(class_name, _Class()).counts.items():
            told.update(counted)
            if seen != generation:
                told.subtract({name: counted[name] for name in ("updated", "pending", "deferred")})
                told["pending"] += counted["users"]
        return told

    def users(self) -> dict[str, int]:
        """UserStorages by class, of whatever name: it need not exist."""
        return {name: len(members.members) for name, members in self._classes.items()}

    def may_replace(self, key: Key, cls: UserStorageClass) -> bool:
        """Whether a pod that the class made old may be taken down now: it is down already, or the budget has room."""
        known = self._classes.setdefault(cls.name, _Class())
        known.max_unavailable = cls.max_unavailable
        if not self.complete:
            return False
        standing = known.members.get(key)
        return (standing is not None and standing.running and not standing.available) or known.free() > 0

    def mark_unavailable(self, key: Key, cls: UserStorageClass) -> None:
        """Its pod is about to be ended: it counts from this moment on, not from the end of the pass, and for the class
        that it has now, which may have become another.
        """
        known = self._standing(key) or MemberState(cls.name, cls.generation)
        self._enter(key, replace(known, class_name=cls.name, running=True, available=False))

    def record(self, key: Key, standing: MemberState | None) -> None:
        """What a pass found; None where the UserStorage is gone."""
        self._enter(key, standing)

    def _standing(self, key: Key) -> MemberState | None:
        name = self._class_of.get(key)
        return self._classes[name].members[key] if name is not None else None

    def _enter(self, key: Key, after: MemberState | None) -> None:
        before = self._standing(key)
        if before == after:
            return
        if before is not None:
            del self._class_of[key]
            self._classes[before.class_name].leave(key)
        if after is not None:
            self._class_of[key] = after.class_name
            self._classes.setdefault(after.class_name, _Class()).enter(key, after)
        if before is not None and (
            after is None or after.class_name != before.class_name or after.waiting_for is WaitingFor.QUOTA
        ):
            self._wake_neighbours(key, self._classes[before.class_name])
        for name in {standing.class_name for standing in (before, after) if standing is not None}:
            self._changed(name)
            if self.complete:
                self._next_in_turn(self._classes[name])
            if not self._classes[name].members:
                del self._classes[name]  # tenants may name as many as they can think of

    def _wake_neighbours(self, key: Key, left: _Class) -> None:
        for other in [other for other in left.waiting[WaitingFor.QUOTA] if other.namespace == key.namespace and other != key]:
            self._wake(other)

    def _next_in_turn(self, members: _Class) -> None:
        turns = members.waiting[WaitingFor.ROLLOUT_SLOT]
        if turns and (free := members.free()) > 0:
            for key in list(islice(turns, free)):
                self._wake(key)
