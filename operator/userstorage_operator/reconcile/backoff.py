"""Backoff of pod creations and of repairs: for pods that fail repeatedly, and children that another controller keeps reverting.

The counts are kept in memory only: they start at 0 when the operator restarts.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Generic, TypeVar

from userstorage_operator.observed.backoff import BackoffState, blocked_until

K = TypeVar("K", bound=Hashable)


class Backoff(Generic[K]):
    """Counts the tries of each key, and delays the next one. A try is the creation of a pod, or the repair of a child."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._states: dict[K, BackoffState] = {}

    def state(self, key: K) -> BackoffState:
        """Return the count and the delay of the key; the count is 0 if there was no try."""
        return self._states.get(key, BackoffState())

    def is_blocked(self, key: K) -> bool:
        """Whether the next try of the key has to wait."""
        state = self._states.get(key)
        return state is not None and blocked_until(state, self._clock()) is not None

    def record_try(self, key: K) -> None:
        """Record that the pod was created, or the child repaired, at this moment."""
        self._states[key] = self.state(key).next(self._clock())

    def record_loss(self, key: K, reason: str) -> None:
        """Record why the pod that the last try created was lost."""
        self._states[key] = self.state(key).lost(reason)

    def forget(self, key: K) -> None:
        """Forget all tries of the key: the UserStorage is gone, or its pod is deleted on purpose."""
        self._states.pop(key, None)
