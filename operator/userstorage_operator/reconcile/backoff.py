"""Backoff per key: for pods that are lost again and again, and for children that another client keeps changing or deleting.

Kept in memory only; the backoff starts over when the operator restarts.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Generic, TypeVar

from userstorage_operator.observed.backoff import BackoffState, blocked_until

K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """Counts the tries of each key."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._states: dict[K, BackoffState] = {}

    def state(self, key: K) -> BackoffState:
        """Return the state of the key; an empty state if there was no try."""
        return self._states.get(key, BackoffState())

    def blocked_until(self, key: K) -> datetime | None:
        """Return when the next try may be; None if it may be now."""
        state = self._states.get(key)
        return blocked_until(state, self._clock()) if state is not None else None

    def record_try(self, key: K, goal: int | None = None) -> BackoffState:
        """Record a try at this moment, and return the state after it. A try for another goal starts over, without a pause."""
        state = self.state(key)
        state = state.next(self._clock()) if state.goal == goal else BackoffState(goal=goal)
        self._states[key] = state
        return state

    def record_loss(self, key: K, reason: str) -> None:
        """Record why the result of the last try was lost."""
        self._states[key] = self.state(key).lost(reason)

    def forget(self, key: K) -> None:
        """Start over: the object is gone, or a person asked for the next try."""
        self._states.pop(key, None)
