"""CPU and memory of processes, and the requests of a contender from the API server's audit log."""

import json
import os
import platform
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localcluster import Cluster
from localcluster.builds import pinned_version

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
ACCOUNT = "system:serviceaccount:userstorage-system:userstorage-operator"
"""The user of every contender. Each round has a cluster of its own, so it identifies the contender's requests."""
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_TICK = os.sysconf("SC_CLK_TCK")
_QUIET = {"contender": 0.03, "all": 0.25}
"""Shares of a core below which a contender, and all processes together, count as having nothing to do."""


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far; 0 if the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pid: int) -> tuple[float, float]:
    """Return the resident memory of a process and its peak so far, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    now, peak = (int(re.findall(rf"{field}:\s+(\d+)", text)[0]) / 1024 for field in ("VmRSS", "VmHWM"))
    return now, peak


def _machine_seconds() -> float:
    """Return the time that all cores of the machine have been busy so far."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / _TICK


class Cpu:
    """The CPU time of named processes, of this harness, and of everything else on the machine, since the last `reset`."""

    def __init__(self, processes: Mapping[str, int]) -> None:
        self._processes = {**processes, "harness": os.getpid()}
        self.reset()

    def reset(self) -> None:
        """Start to count from zero."""
        self._start, self._machine = self._total(), _machine_seconds()

    def used(self) -> dict[str, float]:
        """Return the seconds of each process; `elsewhere` is what other programs of the machine have used."""
        now = self._total()
        used = {name: now[name] - start for name, start in self._start.items()}
        used["elsewhere"] = max(0.0, _machine_seconds() - self._machine - sum(used.values()))
        return {name: round(seconds, 2) for name, seconds in used.items()}

    def _total(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._processes.items()}

    def wait_until_quiet(self, within: float = 120) -> None:
        """Wait until the contender and the cluster have nothing to do for three seconds, at most `within` seconds."""
        end, calm = time.monotonic() + within, 0
        while calm < 3 and time.monotonic() < end:
            before = self._total()
            time.sleep(1)
            used = {name: now - before[name] for name, now in self._total().items()}
            calm = calm + 1 if used.get("contender", 0) < _QUIET["contender"] and sum(used.values()) < _QUIET["all"] else 0


@dataclass(frozen=True)
class Request:
    """A completed request of a user."""

    user: str
    verb: str
    resource: str
    """With a slash and the subresource if there is one."""
    code: int
    agent: str
    namespace: str
    query: str

    @property
    def name(self) -> str:
        """Verb, resource and subresource, and the status code of a failure."""
        return f"{self.verb} {self.resource}" + (f" ({self.code})" if self.code >= 400 else "")


class AuditLog:
    """The audit log of a local cluster: every write, and all requests of the contender. Each call reads what is new."""

    def __init__(self, cluster: Cluster) -> None:
        self._path = cluster.directory / "logs/audit.jsonl"
        self._offset = 0

    def read(self) -> Iterator[Request]:
        """Yield the requests since the last call, those of watches when the watch has ended."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                event = json.loads(line)
                if "resource" in event.get("objectRef", ()):
                    yield _parse(event)

    def skip(self) -> None:
        """Ignore what is new."""
        self._offset = self._path.stat().st_size

    def count(self) -> tuple[Counter[str], int]:
        """Return the contender's requests since the last call, by name, and the number of writes of all other users."""
        contender: Counter[str] = Counter()
        others = 0
        for request in self.read():
            if request.user == ACCOUNT:
                contender[request.name] += 1
            elif request.verb in WRITES:
                others += 1
        return contender, others


def _parse(event: dict[str, Any]) -> Request:
    reference = event["objectRef"]
    return Request(
        event["user"]["username"],
        event["verb"],
        "/".join(part for part in (reference["resource"], reference.get("subresource")) if part),
        event["responseStatus"]["code"],
        event.get("userAgent", ""),
        reference.get("namespace", ""),
        event["requestURI"].partition("?")[2],
    )


def is_write(name: str) -> bool:
    """Whether a request of that name, as in `Request.name`, is a write."""
    return name.split(" ", 1)[0] in WRITES


def versions() -> dict[str, Any]:
    """Return commit, time, machine and versions, which every result has."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory_total = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD") + (" (changed)" if git("status", "--porcelain", "-uno") else ""),
        "machine": {
            "cores": os.cpu_count(),
            "model": model.group(1) if model else platform.machine(),
            "memory": f"{int(memory_total.group(1)) / 1024 / 1024:.0f} GiB" if memory_total else "",
        },
        "versions": {
            "python": platform.python_version(),
            "kubernetes": pinned_version("kube", "k8s.io/kubernetes"),
            "kwok": pinned_version("kwok", "sigs.k8s.io/kwok"),
        },
    }


def command(target: str, arguments: Sequence[str]) -> str:
    """Return the command that repeats a measurement, without the place of its result."""
    kept = [
        word
        for before, word in zip(["", *arguments], arguments, strict=False)
        if not word.startswith("--output") and before != "--output"
    ]
    return f"make {target}" + (f' BENCH_ARGS="{" ".join(kept)}"' if kept else "")


def new_result(kind: str) -> Path:
    """Return where to save a result of this kind, such as `scale`, that is measured now: a file without suffix."""
    return RESULTS / f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def save(path: Path, result: Mapping[str, Any], text: str) -> None:
    """Write a result as JSON, and beside it as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text + "\n")
