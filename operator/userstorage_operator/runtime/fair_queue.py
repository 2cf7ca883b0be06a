"""The order in which keys are served: the highest priority first, within a priority the flows in turn, within a flow the oldest.

Pure: it knows no event loop. The words are those of controller-runtime (priority) and of the API server's Priority and Fairness (flow).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

HIGH_PRIORITY, DEFAULT_PRIORITY, LOW_PRIORITY = 100, 0, -100
"""Any integers, but each priority with waiting keys adds to the cost of `pop`. LOW_PRIORITY is that of controller-runtime."""
PASSED_OVER_MAX = 4
"""How many keys of other priorities are served in a row while a key of a priority waits."""


@dataclass(slots=True)
class _Level(Generic[K]):
    """The waiting keys of one priority."""

    flows: OrderedDict[Hashable, OrderedDict[K, None]] = field(default_factory=OrderedDict)
    """The flow whose turn it is comes first; of a flow, the oldest key. A flow without keys is not kept."""
    passed_over: int = 0
    """How many keys of other priorities were served since a key of this one was."""


class FairQueue(Generic[K]):
    """Keys that wait, each at most once. Every operation takes O(1), but `pop` O(number of priorities).

    No key starves: of any PASSED_OVER_MAX + n keys that are served in a row, n being the number of priorities, one is of each
    priority that has keys all the time, and its flows take turns.
    """

    def __init__(self, flow_of: Callable[[K], Hashable]) -> None:
        """`flow_of(key)` returns the flow of the key. A flow with thousands of keys does not delay the key of another one."""
        self._flow_of = flow_of
        self._waiting: OrderedDict[K, tuple[float, int]] = OrderedDict()
        """Key -> time at which it was pushed, and its priority; the key that has waited longest first."""
        self._levels: dict[int, _Level[K]] = {}
        """By priority; without priorities that have no key."""

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def push(self, key: K, priority: int, now: float) -> None:
        """Add `key`. A key that waits already keeps its time, and the higher of the two priorities."""
        known = self._waiting.get(key)
        if known is not None:
            now, former = known
            if former >= priority:
                return
            self._leave(key, former)
        self._waiting[key] = now, priority
        level = self._levels.setdefault(priority, _Level())
        level.flows.setdefault(self._flow_of(key), OrderedDict())[key] = None

    def pop(self) -> tuple[K, int]:
        """Remove the key that is next, and return it with its priority. Raises KeyError if no key waits."""
        if not self._levels:
            raise KeyError("no key waits")
        priority = max(self._levels, key=self._urgency)
        level = self._levels[priority]
        for other in self._levels.values():
            other.passed_over += 1
        level.passed_over = 0
        flow, keys = next(iter(level.flows.items()))
        key = next(iter(keys))
        level.flows.move_to_end(flow)
        self.remove(key)
        return key, priority

    def remove(self, key: K) -> None:
        """Remove `key` if it waits."""
        known = self._waiting.pop(key, None)
        if known is not None:
            self._leave(key, known[1])

    def oldest(self) -> float | None:
        """Return the time at which the key was pushed that has waited longest, of all priorities; None if no key waits."""
        return next(iter(self._waiting.values()))[0] if self._waiting else None

    def _urgency(self, priority: int) -> tuple[int, int]:
        passed_over = self._levels[priority].passed_over
        return (passed_over if passed_over >= PASSED_OVER_MAX else 0), priority

    def _leave(self, key: K, priority: int) -> None:
        flow, level = self._flow_of(key), self._levels[priority]
        keys = level.flows[flow]
        del keys[key]
        if not keys:
            del level.flows[flow]
        if not level.flows:
            del self._levels[priority]
