"""The last volume statistics from kubelets. Kept in memory: after a start of the operator they are read again."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from userstorage_operator.observed.volume_usage import NEARLY_FULL, VolumeUse

_TTL = 300.0
"""Seconds. A node that is gone must not keep an alert firing, and one late response must not resolve an alert."""


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """The usage of all volumes together, for the metrics."""

    known: int = 0
    nearly_full: int = 0
    fullest: float = 0.0
    """Used share of the fullest volume, from 0 to 1; 0 if no usage is known."""


class VolumeStatsCache:
    """The last known usage of each volume, by namespace and name of its claim."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[VolumeUse, float]] = {}
        self.fullness = UsageSummary()
        """The usage of all volumes together, as of the last round in which all nodes were queried."""

    def record(self, namespace: str, claim: str, use: VolumeUse) -> None:
        """Record the usage of the volume behind a claim, which a kubelet has just reported."""
        self._known[namespace, claim] = use, self._clock()

    def of(self, namespace: str, claim: str) -> VolumeUse | None:
        """Return the last usage of the volume behind a claim; None if it is unknown or too old."""
        use, since = self._known.get((namespace, claim), (None, 0.0))
        return use if self._clock() - since <= _TTL else None

    def summary(self) -> None:
        """Drop usages that are too old, and compute `fullness` from the others. Call this after all nodes were queried."""
        oldest = self._clock() - _TTL
        self._known = {claim: entry for claim, entry in self._known.items() if entry[1] >= oldest}
        ratios = [use.ratio for use, _ in self._known.values()]
        nearly_full = sum(ratio > NEARLY_FULL for ratio in ratios)
        self.fullness = UsageSummary(len(ratios), nearly_full, max(ratios, default=0.0))
