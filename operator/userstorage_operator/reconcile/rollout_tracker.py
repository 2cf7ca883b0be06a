"""The state of the rollout of every class, computed from the last reconcile of each of its members.

Kept in memory. After the operator has started, no rollout continues and no count is reported until every UserStorage was
reconciled once.
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
    """Generation of the class in the last reconcile of a member -> state -> number of such members."""
    waiting: dict[WaitingFor, dict[Key, None]] = field(default_factory=lambda: {reason: {} for reason in WaitingFor})
    """What a member waits for -> the members that wait for it, in order of arrival."""
    max_unavailable: str = "1"

    def sum(self, count: str) -> int:
        return sum(counts[count] for counts in self.counts.values())

    def free_slots(self) -> int:
        """Return how many more pods may be deleted now."""
        return unavailable_budget(self.max_unavailable, self.sum("running")) - self.sum("unavailable")

    def add(self, key: Key, state: MemberState) -> None:
        self.members[key] = state
        self.counts.setdefault(state.class_generation, Counter()).update(_counts_of(state))
        for reason, keys in self.waiting.items():
            if state.waiting_for is reason:
                keys.setdefault(key)
            else:
                keys.pop(key, None)

    def remove(self, key: Key) -> None:
        state = self.members.pop(key)
        counts = self.counts[state.class_generation]
        counts.subtract(_counts_of(state))
        if not counts["users"]:
            del self.counts[state.class_generation]
        for keys in self.waiting.values():
            keys.pop(key, None)


def _counts_of(state: MemberState) -> dict[str, int]:
    counts = {
        "users": True,
        "running": state.running,
        "unavailable": state.running and not state.available,
        "updated": state.updated,
        "pending": state.outdated,
        "deferred": state.deferred,
        "failed": state.failed,
    }
    return {name: int(count) for name, count in counts.items()}  # not True: the status would have `true` for a count of 1


class RolloutTracker:
    """Counts the members of each class, and grants slots in rollouts. The reconciler of classes reads the counts."""

    def __init__(self, enqueue: Callable[[Key], None], on_counts_change: Callable[[str], None]) -> None:
        """`enqueue(key)` is called when a member may get what it waits for.

        `on_counts_change(class_name)` is called when the counts of a class changed.
        """
        self._enqueue = enqueue
        self._on_counts_change = on_counts_change
        self._classes: dict[str, _Class] = {}
        self._class_of: dict[Key, str] = {}
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

    def users(self) -> dict[str, int]:
        """Return a mapping from class name to the number of its UserStorages, also for classes that do not exist."""
        return {name: len(cls.members) for name, cls in self._classes.items()}

    def may_replace(self, key: Key, cls: UserStorageClass) -> bool:
        """Whether a pod that a change of the class made outdated may be replaced now.

        True if the pod is unavailable anyway, or if a slot is free. False until every UserStorage was reconciled once.
        """
        tracked = self._classes.setdefault(cls.name, _Class())
        tracked.max_unavailable = cls.max_unavailable
        if not self.complete:
            return False
        state = tracked.members.get(key)
        return (state is not None and state.running and not state.available) or tracked.free_slots() > 0

    def mark_unavailable(self, key: Key, cls: UserStorageClass) -> None:
        """Take a slot for a pod that is about to be deleted, at once and not only when the reconcile is complete.

        The slot is one of `cls`, the class that the UserStorage has now. Its last reconcile may have been with another class.
        """
        state = self._state(key) or MemberState(cls.name, cls.generation)
        self._update(key, replace(state, class_name=cls.name, running=True, available=False))

    def record(self, key: Key, state: MemberState | None) -> None:
        """Record the state of a UserStorage after its reconcile; `state` is None if the UserStorage is gone."""
        self._update(key, state)

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
            self._classes.setdefault(after.class_name, _Class()).add(key, after)
        if before is not None and (
            after is None or after.class_name != before.class_name or after.waiting_for is WaitingFor.QUOTA
        ):
            self._enqueue_quota_waiters(key, self._classes[before.class_name])
        for name in {state.class_name for state in (before, after) if state is not None}:
            self._on_counts_change(name)
            if self.complete:
                self._enqueue_next(self._classes[name])
            if not self._classes[name].members:
                del self._classes[name]  # tenants can name any number of classes

    def _enqueue_quota_waiters(self, key: Key, cls: _Class) -> None:
        """Requeue the other members in the namespace of `key` that wait for a place in the quota."""
        waiting = cls.waiting[WaitingFor.QUOTA]
        for other in [other for other in waiting if other.namespace == key.namespace and other != key]:
            self._enqueue(other)

    def _enqueue_next(self, cls: _Class) -> None:
        """Requeue as many members that wait for a rollout slot as there are free slots, in order of arrival."""
        waiting = cls.waiting[WaitingFor.ROLLOUT_SLOT]
        if waiting and (free := cls.free_slots()) > 0:
            for key in list(islice(waiting, free)):
                self._enqueue(key)
