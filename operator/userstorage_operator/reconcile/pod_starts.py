"""How often each UserStorage got a new pod lately. In memory: an operator that restarts is patient from anew."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from userstorage_operator.api.userstorage import Key
from userstorage_operator.observed.backoff import next_state
from userstorage_operator.observed.snapshot import BackoffState


class PodStartBook:
    """Kept by the actor, and by the observer, who reads it, too: it sees how a pod was lost."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._starts: dict[Key, BackoffState] = {}

    def of(self, key: Key) -> BackoffState:
        """The count so far."""
        return self._starts.get(key, BackoffState())

    def made(self, key: Key) -> None:
        """A pod was made just now."""
        self._starts[key] = next_state(self.of(key), self._clock())

    def lost(self, key: Key, why: str) -> None:
        """The present pod is lost; that is told where the next one has to wait."""
        self._starts[key] = replace(self.of(key), last_loss=why)

    def forget(self, key: Key) -> None:
        """The object is gone, or its pod was ended because somebody asked for that: the next one need not wait."""
        self._starts.pop(key, None)
