"""What kubelets last said of volumes. In memory: after a start they are asked again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from userstorage_operator.observed.volume_usage import NEARLY_FULL, VolumeUse

_GOOD_FOR = 300.0
"""Seconds: a node that is gone must not keep an alarm up, and one answer that is late must not end one."""


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """All volumes together, for the metrics."""

    known: int = 0
    nearly_full: int = 0
    fullest: float = 0.0
    """As a ratio; 0 where none is known."""


class VolumeStatsCache:
    """By namespace and name of the claim."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[VolumeUse, float]] = {}
        self.fullness = UsageSummary()
        """As it was after the last look at all nodes."""

    def record(self, namespace: str, claim: str, use: VolumeUse) -> None:
        """A kubelet has told this now."""
        self._known[namespace, claim] = use, self._clock()

    def of(self, namespace: str, claim: str) -> VolumeUse | None:
        """What is known of a claim; None where that is nothing, or old."""
        use, since = self._known.get((namespace, claim), (None, 0.0))
        return use if self._clock() - since <= _GOOD_FOR else None

    def summary(self) -> None:
        """All nodes have been asked: forget what is old, and count."""
        oldest = self._clock() - _GOOD_FOR
        self._known = {place: entry for place, entry in self._known.items() if entry[1] >= oldest}
        ratios = [use.ratio for use, _ in self._known.values()]
        nearly_full = sum(ratio > NEARLY_FULL for ratio in ratios)
        self.fullness = UsageSummary(len(ratios), nearly_full, max(ratios, default=0.0))
