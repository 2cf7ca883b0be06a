"""How often each child was put right lately: with whoever changes it back every time there is no arguing at full speed."""

from collections.abc import Callable
from datetime import datetime

from userstorage_operator.api.errors import ConflictingController
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.userstorage import Key
from userstorage_operator.observed.backoff import blocked_until, next_state
from userstorage_operator.observed.snapshot import BackoffState


class RepairBook:
    """Kept and asked by the actor. In memory: an operator that restarts is patient from anew."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._repairs: dict[Key, dict[Kind, BackoffState]] = {}

    def refuse_contested(self, key: Key, kind: Kind) -> None:
        """Raise Contested where a repair has to wait, by the pauses that lost pods have."""
        so_far = self._repairs.get(key, {}).get(kind)
        if so_far is not None and blocked_until(so_far, self._clock()) is not None:
            raise ConflictingController(
                f"the {kind.resource.kind} was put right {so_far.count} times in quick succession, and somebody changes it"
                " again; the next time comes after a pause"
            )

    def made(self, key: Key, kind: Kind) -> None:
        """A child was put right just now."""
        repairs = self._repairs.setdefault(key, {})
        repairs[kind] = next_state(repairs.get(kind, BackoffState()), self._clock())

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._repairs.pop(key, None)
