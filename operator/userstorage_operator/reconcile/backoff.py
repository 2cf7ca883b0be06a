"""Backoff per key: for pods that are lost again and again, and for children that another client keeps changing or deleting.

The counts are kept in memory only: they start at 0 when the operator restarts.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Generic, TypeVar

from userstorage_operator.observed.backoff import FORGOTTEN_AFTER, BackoffState, blocked_until

K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """Counts the tries of each key, and delays the next one. A try is the creation of a pod, or the repair of a child."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._states: OrderedDict[K, tuple[datetime, BackoffState]] = OrderedDict()
        """Key -> when it was last recorded, and what; the oldest first."""

    def state(self, key: K) -> BackoffState:
        """Return the count and the delay of the key; the count is 0 if there was no try."""
        _, state = self._states.get(key, (None, BackoffState()))
        return state

    def blocked_until(self, key: K) -> datetime | None:
        """Return when the next try may be; None if it may be now."""
        state = self.state(key)
        return blocked_until(state, self._clock()) if state.not_before is not None else None

    def record_try(self, key: K, goal: int | None = None) -> BackoffState:
        """Record a try at this moment, and return the state after it. A try for another goal starts over, without a pause."""
        state = self.state(key)
        state = state.next(self._clock()) if state.goal == goal else BackoffState(goal=goal)
        self._record(key, state)
        return state

    def record_loss(self, key: K, reason: str) -> None:
        """Record why the pod that the last try created was lost."""
        self._record(key, self.state(key).lost(reason))

    def forget(self, key: K) -> None:
        """Forget all tries of the key: the UserStorage is gone, or its pod is deleted on purpose."""
        self._states.pop(key, None)

    def _record(self, key: K, state: BackoffState) -> None:
        now = self._clock()
        self._states[key] = now, state
        self._states.move_to_end(key)
        while now - next(iter(self._states.values()))[0] > FORGOTTEN_AFTER:  # every user that starts leaves six
            self._states.popitem(last=False)
