"""The state of the rollout of every class, computed from the last reconcile of each of its members.

Kept in memory. After a start no rollout continues and no count is reported until every UserStorage was reconciled once.
Three rules decide which pod may be replaced (docs/semantics.md#rollout):

- An available member needs a slot. It uses the slot until it is available again. Members that were down before use none.
- A member that stays down although others came back is excused: as many as `maxUnavailable` is of those that came back, or all
  of one other namespace. An image that starts nowhere excuses none, so it stops its own rollout.
- A member that is down already needs no slot, but waits until no available member does, or until others came back, in
  proportion to them. Until then its outdated pod shows that it was down before: to the next leader too.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from sortedcontainers import SortedList

from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.status.rollout import MemberState, unavailable_budget

_BATCH = 100
"""How many members are requeued at once. Each of their reconciles requeues the next ones."""
_FULL_NAMESPACES_MAX = 3
"""A namespace may have no free slot although others have one; more than these cannot be."""


@dataclass(slots=True)
class _Class:
    members: dict[Key, MemberState] = field(default_factory=dict)
    counts: dict[int, Counter[str]] = field(default_factory=dict)
    """By the generation of the class that the reconcile of the member saw."""
    slots: Counter[str] = field(default_factory=Counter)
    """Members that use a slot, by namespace."""
    failing: dict[str, int] = field(default_factory=dict)
    """Those of them that failed, by namespace; without namespaces that have none."""
    most_failing: SortedList[tuple[int, str]] = field(default_factory=SortedList)
    """Number and namespace of `failing`, in ascending order."""
    users: Counter[str] = field(default_factory=Counter)
    """Members by namespace; without namespaces that have none."""
    next: dict[str, dict[Key, None]] = field(default_factory=dict)
    """Available members that wait for a slot, by namespace, in order of arrival."""
    down: dict[Key, None] = field(default_factory=dict)
    """Members that wait to be replaced and are down already; the one that was reconciled last comes last."""
    max_unavailable: str = "1"
    generation: int = 0
    moved_at: float = 0.0
    """When a pod was last replaced, or the first member had to wait."""

    @property
    def is_waiting(self) -> bool:
        return bool(self.next or self.down)

    def sum(self, count: str) -> int:
        return sum(counts[count] for counts in self.counts.values())

    def free_slots(self, namespace: str) -> int:
        """Return how many more available members of the namespace may be replaced now."""
        budget, used, came_back = (
            unavailable_budget(self.max_unavailable, self.sum("running")),
            self.sum("slots"),
            self._came_back,
        )
        if came_back:
            elsewhere = next((count for count, other in reversed(self.most_failing) if other != namespace), 0)
            in_proportion = min(self.sum("failing"), unavailable_budget(self.max_unavailable, came_back))
            return budget - used + max(elsewhere, in_proportion)
        if budget > 1 and len(self.users) > 1:  # so that one namespace cannot keep every other from coming back
            return min(budget - used, budget - 1 - self.slots[namespace])
        return budget - used

    def free_for_down(self) -> int:
        """Return how many more members that are down already may be replaced now."""
        unseen = sum(counts["available"] for generation, counts in self.counts.items() if generation != self.generation)
        if not unseen and not self.counts.get(self.generation, Counter())["next"]:
            return len(self.down)
        in_proportion = unavailable_budget(self.max_unavailable, self._came_back) if self._came_back else 0
        return in_proportion - self.sum("down")

    @property
    def _came_back(self) -> int:
        """How many members are available with a pod of the current generation."""
        return self.counts.get(self.generation, Counter())["came_back"]

    def may_be_replaced(self) -> Iterator[Key]:
        """Yield the waiting members that may be replaced now, at most `_BATCH` of those that are available, and of those that are down."""
        chosen = full = 0
        for namespace, keys in self.next.items():
            free = self.free_slots(namespace) - chosen
            for key in islice(keys, max(min(free, _BATCH - chosen), 0)):
                chosen += 1
                yield key
            full += free <= 0
            if full == _FULL_NAMESPACES_MAX or chosen == _BATCH:
                break
        yield from islice(self.down, min(max(self.free_for_down(), 0), _BATCH))

    def add(self, key: Key, state: MemberState) -> None:
        self.members[key] = state
        self.users[key.namespace] += 1
        self.counts.setdefault(state.class_generation, Counter()).update(_counts_of(state))
        self._count_slot(key.namespace, state, 1)
        if state.waits_for_slot:
            (self.next.setdefault(key.namespace, {}) if state.available else self.down)[key] = None

    def remove(self, key: Key) -> None:
        state = self.members.pop(key)
        self.users[key.namespace] -= 1
        counts = self.counts[state.class_generation]
        counts.subtract(_counts_of(state))
        if not counts["users"]:
            del self.counts[state.class_generation]
        self._count_slot(key.namespace, state, -1)
        if not self.users[key.namespace]:
            del self.users[key.namespace], self.slots[key.namespace]
        self.down.pop(key, None)
        if (waiting := self.next.get(key.namespace)) is not None:
            waiting.pop(key, None)
            if not waiting:
                del self.next[key.namespace]

    def _count_slot(self, namespace: str, state: MemberState, change: int) -> None:
        if not state.uses_slot:
            return
        self.slots[namespace] += change
        if state.failed:
            before = self.failing.pop(namespace, 0)
            self.most_failing.discard((before, namespace))
            if now := before + change:
                self.failing[namespace] = now
                self.most_failing.add((now, namespace))


def _counts_of(state: MemberState) -> dict[str, int]:
    counts = {
        "users": True,
        "running": state.running,
        "available": state.running and state.available,
        "unavailable": state.running and not state.available,
        "updated": state.updated,
        "pending": state.outdated,
        "deferred": state.deferred,
        "failed": state.failed,
        "came_back": state.running and state.available and state.updated,
        "next": state.is_next,
        "down": state.is_down,
        "slots": state.uses_slot,
        "failing": state.uses_slot and state.failed,
    }
    return {name: int(count) for name, count in counts.items()}  # not True: the status would have `true` for a count of 1


class RolloutTracker:
    """Counts the members of each class, and grants slots in rollouts. The reconciler of classes reads the counts."""

    def __init__(
        self,
        enqueue: Callable[[Key], None],
        on_counts_change: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`enqueue(key)` is called when a member may continue, `on_counts_change(class_name)` when the counts of a class changed."""
        self._enqueue = enqueue
        self._on_counts_change = on_counts_change
        self._clock = clock
        self._classes: dict[str, _Class] = {}
        self._class_of: dict[Key, str] = {}
        self._waiting: set[str] = set()
        """Names of the classes with members that wait."""
        self._not_reconciled: set[Key] = set()

    def expect(self, keys: Iterable[Key]) -> None:
        """Hold all rollouts until these keys were reconciled once.

        The number of ready members must be known before a pod is replaced.
        """
        self._not_reconciled.update(keys)

    def mark_reconciled(self, key: Key) -> None:
        """Record that the key was reconciled once, even if the reconcile failed.

        A UserStorage that always fails must not hold up every rollout.
        """
        if self._not_reconciled:
            self._not_reconciled.discard(key)
            if self.complete:
                for cls in self._classes.values():
                    self._enqueue_next(cls)

    @property
    def complete(self) -> bool:
        """Whether every UserStorage that existed at the start was reconciled once."""
        return not self._not_reconciled

    def counts(self, class_name: str, generation: int) -> Counter[str]:
        """Return the number of members of a class by state.

        The states are users (all members), running, unavailable, updated, pending, deferred and failed. UserStorages not yet
        reconciled against the current generation of the class count as pending.
        """
        total: Counter[str] = Counter()
        for observed_generation, counts in self._classes.get(class_name, _Class()).counts.items():
            total.update(counts)
            if observed_generation != generation:
                total.subtract({name: counts[name] for name in ("updated", "pending", "deferred")})
                total["pending"] += counts["users"]
        return total

    def users(self, class_names: Iterable[str]) -> tuple[dict[str, int], int]:
        """Return the number of UserStorages of each of these classes, and that of all other classes together: tenants can name any
        number of them.
        """
        found = {name: len(self._classes[name].members) if name in self._classes else 0 for name in class_names}
        return found, len(self._class_of) - sum(found.values())

    def longest_standstill(self) -> float:
        """Return the seconds for which members of a class wait and none was replaced: of the class with the longest; else 0."""
        waiting = (self._classes[name] for name in self._waiting)
        return max((self._clock() - cls.moved_at for cls in waiting), default=0.0)

    def may_replace(self, key: Key, cls: UserStorageClass, *, available: bool) -> bool:
        """Whether a pod that a change of the class made outdated may be replaced now. `available` says whether it is ready."""
        tracked = self._classes.setdefault(cls.name, _Class())
        tracked.max_unavailable, tracked.generation = cls.max_unavailable, cls.generation
        if not self.complete:
            return False
        return (tracked.free_slots(key.namespace) if available else tracked.free_for_down()) > 0

    def mark_unavailable(self, key: Key, cls: UserStorageClass, *, by_rollout: bool, available: bool) -> None:
        """Record that a pod is about to be deleted: from this moment on, not from the end of the reconcile, and in the class that
        the UserStorage has now, which may have changed. An `available` one that the rollout replaces takes a slot.
        """
        state = self._state(key) or MemberState(cls.name, cls.generation)
        state = replace(state, class_name=cls.name, class_generation=cls.generation, running=True, available=False)
        taken = by_rollout and available
        state = replace(state, updated=False, outdated=False, deferred=False, failed=False, waits_for_slot=False)
        self._update(key, replace(state, replaced=taken))
        if by_rollout:
            self._classes[cls.name].moved_at = self._clock()

    def record(self, key: Key, state: MemberState | None) -> None:
        """Record the state after a reconcile; None if the UserStorage is gone."""
        if state is not None:
            self._update(key, replace(state, replaced=self._was_replaced(key, state)))
        else:
            self._update(key, None)

    def _was_replaced(self, key: Key, state: MemberState) -> bool:
        """Whether the member may be down by an act of the rollout. After a start nothing shows whether a member with a pod of
        this version, or with none, was available before: it counts as such.
        """
        if state.outdated or state.evicted:
            return False
        before = self._state(key)
        return before.replaced if before is not None else key in self._not_reconciled

    def _state(self, key: Key) -> MemberState | None:
        name = self._class_of.get(key)
        return self._classes[name].members[key] if name is not None else None

    def _update(self, key: Key, after: MemberState | None) -> None:
        before = self._state(key)
        if before == after:
            return
        if before is not None:
            del self._class_of[key]
            self._classes[before.class_name].remove(key)
        if after is not None:
            self._class_of[key] = after.class_name
            self._add(key, after)
        for name in {state.class_name for state in (before, after) if state is not None}:
            self._on_counts_change(name)
            (self._waiting.add if self._classes[name].is_waiting else self._waiting.discard)(name)
            if self.complete:
                self._enqueue_next(self._classes[name])
            if not self._classes[name].members:
                del self._classes[name]  # tenants can name any number of classes

    def _add(self, key: Key, state: MemberState) -> None:
        cls = self._classes.setdefault(state.class_name, _Class())
        waited = cls.is_waiting
        cls.add(key, state)
        if not waited:
            cls.moved_at = self._clock()

    def _enqueue_next(self, cls: _Class) -> None:
        """Requeue as many members that wait for the rollout as may be replaced now."""
        if cls.is_waiting:
            for key in list(cls.may_be_replaced()):
                self._enqueue(key)
