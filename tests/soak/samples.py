"""What a process needs over hours: memory, descriptors, threads, tasks, and the age of its queue."""

import statistics
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path

SLOPE_MAX = 1.0
"""MiB an hour that the memory may grow after the warm-up."""
JUDGED_FROM = 60.0
"""Minutes after the warm-up from which on a slope is a verdict: that of a shorter run is noise."""
_GROWTH, _FEW = 1.1, 2
"""By which a number is still flat: a factor, and a count."""
_SCRAPE_SECONDS = 10


@dataclass
class Samples:
    """One entry in each list for each sample."""

    minutes: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    queue_age: list[float] = field(default_factory=list)
    """For how many seconds the oldest key in the queue has waited."""

    def take(self, pid: int, port: int, minute: float) -> None:
        """Add a sample of a process whose metrics are on a port of this machine. A scrape that is not answered adds none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_SCRAPE_SECONDS) as response:
                lines = response.read().decode().splitlines()
        except OSError:
            return
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        self.minutes.append(round(minute, 2))
        self.rss_mib.append(round(int(status["VmRSS"].split()[0]) / 1024, 2))
        self.descriptors.append(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()))
        self.threads.append(int(status["Threads"]))
        self.tasks.append(int(float(values["userstorage_tasks"])))
        self.queue_age.append(round(float(values["userstorage_queue_oldest_wait_seconds"]), 2))

    def since(self, minute: float) -> "Samples":
        """Return the samples from that minute on."""
        first = next((index for index, at in enumerate(self.minutes) if at >= minute), len(self.minutes))
        return Samples(**{name: values[first:] for name, values in asdict(self).items()})

    def slope(self) -> float:
        """Return the growth of the memory in MiB an hour, by linear regression."""
        return statistics.linear_regression([minute / 60 for minute in self.minutes], self.rss_mib).slope

    def halves(self, name: str) -> tuple[float, float]:
        """Return the median of a number in the first and in the second half of the samples."""
        values, middle = getattr(self, name), len(self.minutes) // 2
        return statistics.median(values[:middle]), statistics.median(values[middle:])

    def growth(self) -> list[str]:
        """Return what grows, as texts. Samples of less than an hour show nothing."""
        if self.minutes[-1] - self.minutes[0] < JUDGED_FROM - 1:
            return []
        found = [f"the memory grows by {self.slope():.2f} MiB an hour"] if self.slope() > SLOPE_MAX else []
        for name in ("descriptors", "threads", "tasks"):
            before, after = self.halves(name)
            if after > before * _GROWTH + _FEW:
                found.append(f"the number of {name} grows from {before:g} to {after:g}")
        return found
