"""Backoff per key: for pods that are lost again and again, and for children that another controller keeps reverting.

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

    def is_blocked(self, key: K) -> bool:
        """Whether the next try has to wait."""
        state = self._states.get(key)
        return state is not None and blocked_until(state, self._clock()) is not None

    def record_try(self, key: K) -> None:
        """Record a try at this moment."""
        self._states[key] = self.state(key).next(self._clock())

    def record_loss(self, key: K, reason: str) -> None:
        """Record why the result of the last try was lost."""
        self._states[key] = self.state(key).lost(reason)

    def forget(self, key: K) -> None:
        """Start over: the object is gone, or a person asked for the next try."""
        self._states.pop(key, None)
