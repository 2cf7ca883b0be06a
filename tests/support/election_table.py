"""The table of the election trials, as a document."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from support.operator_account import Request
from support.revision import Origin


class Trials:
    """For each way to lose the leader, the durations until another process wrote."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._origin = Origin("make test-election")
        self._durations: dict[str, list[float]] = defaultdict(list)

    def add(self, way: str, duration: timedelta) -> None:
        """Add a trial."""
        self._durations[way].append(duration.total_seconds())

    def table(self, writes: Sequence[Request], late: Sequence[Request]) -> str:
        """Return all trials as Markdown, with the number of checked `writes`, and of those that a suspended leader sent `late`."""
        leaders = {write.credential for write in writes if write.resource != "leases"}
        work = sum(write.resource != "leases" for write in writes)
        return "\n".join(
            [
                "# Time until the next leader writes",
                "",
                str(self._origin),
                "",
                f"Three operator processes with one lease, {self._count} trials for each fault, each in a burst",
                "of new UserStorages and of deletions. The time runs from the signal, or from the loss of the network, until the first",
                "write of another process in the API server's audit log, leases excluded.",
                "",
                "| fault of the leader | trials | fastest | median | slowest |",
                "|---|---|---|---|---|",
                *(
                    f"| {way} | {len(durations)} | {min(durations):.2f} s | {statistics.median(durations):.2f} s | {max(durations):.2f} s |"
                    for way, durations in self._durations.items()
                ),
                "",
                f"{work:,} writes by {len(leaders)} leaders, one after the other. No process wrote before it had acquired the lease, none after",
                "another had acquired it, none in two separate periods: `assert_never_two` in `tests/support/operator_replicas.py`.",
                f"Of the suspended leaders, {len(late)} sent, when they resumed, the one request that they were about to send when they were",
                "suspended; they began no other.",
                "",
            ]
        )
