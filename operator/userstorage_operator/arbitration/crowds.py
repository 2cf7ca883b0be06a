"""Groups of UserStorages that compete for one thing, too large to be requeued on each change of who has it.

Only the message of most of them changes: it names who has the thing. The first in order of precedence, one of which may get it, are
requeued at once, the others later, once for all the changes until then. So the deletion of thousands, one after the other, does not
requeue all that are left each time.
"""

from collections.abc import Hashable, Iterable
from itertools import islice
from typing import Generic, TypeVar

from userstorage_operator.api.userstorage import Key

G = TypeVar("G", bound=Hashable)

AT_ONCE = 10


class Crowds(Generic[G]):
    """The groups of which UserStorages are still to be requeued."""

    def __init__(self) -> None:
        self._waiting: dict[G, None] = {}

    def first(self, group: G, keys: Iterable[Key]) -> set[Key]:
        """Return the first AT_ONCE of `keys`, which are in order of precedence. If there are more, the group is noted."""
        found = list(islice(keys, AT_ONCE + 1))
        if len(found) > AT_ONCE:
            self._waiting[group] = None
        return set(found[:AT_ONCE])

    def take(self) -> list[G]:
        """Return the groups that were noted since the last call."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken
