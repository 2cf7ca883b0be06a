"""The operator and a plain Go controller, one after the other on the same cluster, with the same work.

Only the ratio is meaningful: the numbers are those of one machine that also runs etcd, the API server, the controller manager,
the scheduler, kwok and this harness. Each round has a new namespace, and the contenders alternate.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from load import Load

import localcluster
from localcluster.builds import GoProgram, build_go
from localcluster.progress import Console

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PEER = GoProgram("peer", ".", modules=Path(__file__).parent)
WRITES = re.compile(r'apiserver_request_total\{[^}]*[,{]resource="(\w+)"[^}]*verb="(PATCH|PUT|POST|APPLY|DELETE)"[^}]*\} (\S+)')


@dataclass(frozen=True)
class Round:
    """The result of one contender in one round. CPU in seconds of one core, memory in MiB."""

    contender: str
    objects: int
    seconds_to_ready: float
    cpu_to_ready: float
    writes: dict[str, float]
    seconds_to_gone: float
    cpu_to_gone: float
    memory: float

    @property
    def rate(self) -> float:
        """Objects a second, from the first creation to the last Ready."""
        return self.objects / self.seconds_to_ready


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory(pid: int) -> float:
    """Return the peak resident memory of a process so far, in MiB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


def writes(kubectl: list[str]) -> dict[str, float]:
    """Return the number of writes of the API server, by resource, with those of the status."""
    text = subprocess.run([*kubectl, "get", "--raw", "/metrics"], capture_output=True, text=True, check=True).stdout
    counted: dict[str, float] = {}
    for resource, _, value in WRITES.findall(text):
        counted[resource] = counted.get(resource, 0) + float(value)
    return counted


@contextmanager
def running(command: list[str], kubeconfig: Path, log: Path) -> Iterator[int]:
    """Run the process of a contender for the `with` block. Yield its PID."""
    with log.open("a") as output:
        process = subprocess.Popen(command, env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdout=output, stderr=output)
        try:
            time.sleep(4)  # its start is not part of the measurement
            yield process.pid
        finally:
            process.terminate()
            process.wait(timeout=30)


def measure(contender: str, command: list[str], objects: int, cluster: localcluster.Cluster, load: Load) -> Round:
    """Measure one round."""
    kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}"]
    with running(command, cluster.kubeconfig, cluster.directory / f"{contender}.log") as pid:
        before, cpu = writes(kubectl), cpu_seconds(pid)
        seconds_to_ready = load.create_until_ready(objects)
        cpu_to_ready = cpu_seconds(pid) - cpu
        counted = {name: value - before.get(name, 0) for name, value in writes(kubectl).items()}
        cpu = cpu_seconds(pid)
        seconds_to_gone = load.delete_until_gone()
        return Round(
            contender=contender,
            objects=objects,
            seconds_to_ready=seconds_to_ready,
            cpu_to_ready=cpu_to_ready,
            writes={name: round(counted.get(name, 0) / objects, 2) for name in ("userstorages", "services", "networkpolicies")},
            seconds_to_gone=seconds_to_gone,
            cpu_to_gone=cpu_seconds(pid) - cpu,
            memory=peak_memory(pid),
        )


def table(rounds: list[Round]) -> str:
    """Return the medians as a Markdown table, with the ratio below it."""
    lines = [
        "| contender | CRs/s to Ready | CPU per CR | CPU per deletion | peak memory | UserStorage writes per CR |",
        "|---|---|---|---|---|---|",
    ]
    rates: dict[str, float] = {}
    for contender in dict.fromkeys(measured.contender for measured in rounds):
        own = [measured for measured in rounds if measured.contender == contender]
        count = own[0].objects
        rates[contender] = median(measured.rate for measured in own)
        lines.append(
            f"| {contender} | {rates[contender]:.1f} "
            f"| {median(measured.cpu_to_ready for measured in own) / count * 1000:.1f} ms "
            f"| {median(measured.cpu_to_gone for measured in own) / count * 1000:.1f} ms "
            f"| {median(measured.memory for measured in own):.0f} MiB "
            # The harness's creation of the object is one of the counted writes.
            f"| {median(measured.writes['userstorages'] for measured in own) - 1:.1f} |"
        )
    ours, peer = rates.values()
    lines.append(f"\nRatio of CRs/s to Ready, operator to Go peer: {ours / peer:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Run the rounds, print the table and save the result."""
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    report = Console()
    contenders = {
        "operator": [
            str(Path(sys.executable).with_name("userstorage-operator")),
            "run",
            "--http-port=0",
            "--log-level=warning",
        ],
        "Go peer": [str(build_go(PEER, report))],
    }
    rounds = []
    with tempfile.TemporaryDirectory(prefix="userstorage-bench-") as directory:
        cluster = localcluster.start("control-plane", Path(directory), report)
        try:
            kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}"]
            subprocess.run([*kubectl, "apply", "-k", str(ROOT / "deploy/crds")], check=True, stdout=subprocess.DEVNULL)
            time.sleep(2)
            for number in range(chosen.rounds):
                for contender, command in contenders.items():
                    load = Load(cluster.kubeconfig, f"round-{number}-{contender.replace(' ', '-').lower()}")
                    rounds.append(measure(contender, command, chosen.objects, cluster, load))
                    report(f"round {number + 1} of {chosen.rounds}, {contender}: {rounds[-1].rate:.1f} CRs/s")
        finally:
            localcluster.stop(Path(directory))
    print(table(rounds))
    now = datetime.now(UTC)
    result = {
        "time": now.isoformat(timespec="seconds"),
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip(),
        "machine": {"cores": os.cpu_count(), "platform": platform.machine(), "python": platform.python_version()},
        "table": table(rounds).splitlines(),
        "rounds": [asdict(measured) for measured in rounds],
    }
    (RESULTS / f"side-by-side-{now:%Y%m%d-%H%M%S}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
