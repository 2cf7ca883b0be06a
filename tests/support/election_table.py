"""What the trials of the election took, as a document."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from support.operator_account import Request


class Trials:
    """Of each way to lose a leader, how long it took until another one wrote."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._took: dict[str, list[float]] = defaultdict(list)

    def took(self, way: str, time: timedelta) -> None:
        """One more trial."""
        self._took[way].append(time.total_seconds())

    def table(self, writes: Sequence[Request]) -> str:
        """All of them, and the `writes` in which nobody wrote at another's time."""
        leaders = {write.credential for write in writes if write.resource != "leases"}
        work = sum(write.resource != "leases" for write in writes)
        return "\n".join(
            [
                "# What becomes of the leader, and when the next one writes",
                "",
                f"Made by `make test-election`: three operator processes with one lease, {self._count} trials each way, each in a burst",
                "of new UserStorages and of deletions. Counted from the signal, or from the first moment without a network, to the first",
                "write of another process in the API server's audit log; leases do not count.",
                "",
                "| the leader | trials | fastest | median | slowest |",
                "|---|---|---|---|---|",
                *(
                    f"| {way} | {len(took)} | {min(took):.2f} s | {statistics.median(took):.2f} s | {max(took):.2f} s |"
                    for way, took in self._took.items()
                ),
                "",
                f"{work:,} writes by {len(leaders)} leaders, one after the other. No process wrote before it had taken the lease, none after",
                "another had taken it, none in two stretches: `assert_never_two` in `tests/cluster/test_election.py`.",
                "",
            ]
        )
