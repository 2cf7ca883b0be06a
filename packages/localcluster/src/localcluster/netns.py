"""A node's own namespaces of network, mounts and processes, and its cable to this machine.

Its first process is the end of it all: when that one is killed, the kernel ends every process inside and drops their
mounts, network interfaces and firewall rules. What a node leaves on this machine itself is the cable, which goes with
either end, and what `node.py` notes to undo.
"""

import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import processes
from localcluster.errors import ClusterError
from localcluster.processes import PROC, Process

NAMESPACES = ("--net", "--mount", "--pid")


@dataclass(frozen=True)
class Namespace:
    """A running namespace, by the pid that its first process has on this machine."""

    pid: int

    def run(self, command: Sequence[str]) -> str:
        """Run a command inside and return its output. ClusterError where it fails."""
        return run(["nsenter", f"--target={self.pid}", *NAMESPACES, "--", *command])

    def launch(self, name: str, command: Sequence[str], log: Path) -> Process:
        """Start a command inside, in the background; a `processes.Launch`. ClusterError where it cannot run."""
        log.parent.mkdir(parents=True, exist_ok=True)
        # The shell ends at once, so the command becomes a child of the first process, which takes its exit code.
        start = f"setsid {shlex.join(command)} </dev/null >>{shlex.quote(str(log))} 2>&1 & echo $!"
        inner = int(self.run(["/bin/sh", "-c", start]))
        outer = self._outer_pid(inner)
        if outer is None:
            raise ClusterError(f"{name} ended at once: {processes.last_line(log)} (log: {log})")
        return processes.record(name, command, log, outer)

    def _outer_pid(self, inner: int) -> int | None:
        """The pid on this machine of the process that has that pid inside, None where there is none."""
        namespace = (PROC / str(self.pid) / "ns" / "pid").readlink()
        for path in PROC.iterdir():
            if not path.name.isdigit():
                continue
            try:
                if (path / "ns" / "pid").readlink() == namespace and _innermost_pid(path) == inner:
                    return int(path.name)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended while we looked, or is not ours
        return None


def create(log: Path, note: Callable[[Process], None]) -> Namespace:
    """A new namespace, held by two processes that `note` is told of as each starts. ClusterError where refused."""
    holder = processes.launch(
        "namespace-holder",
        [
            "/usr/bin/env",
            "unshare",
            *NAMESPACES,
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
            "catatonit",
            "--",
            "sleep",
            "infinity",
        ],
        log,
    )
    note(holder)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not processes.alive(holder):
            break
        first = _first_process(holder.pid)
        if first is not None:
            note(processes.record("namespace", ["catatonit"], log, first))
            return Namespace(first)
        time.sleep(0.01)
    raise ClusterError(f"this machine gives no namespaces: {processes.last_line(log)}")


def run(command: Sequence[str]) -> str:
    """Run a command on this machine and return its output. ClusterError where it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(f"{shlex.join(command)[:200]} failed: {lines[-1] if lines else 'no output'}")
    return done.stdout


def _first_process(holder: int) -> int | None:
    """The first process of the namespaces, once it is past `unshare` and has its own /proc; None before."""
    children = (PROC / str(holder) / "task" / str(holder) / "children").read_text().split()
    if not children:
        return None
    command = (PROC / children[0] / "comm").read_text().strip()
    return int(children[0]) if command == "catatonit" else None


def _innermost_pid(path: Path) -> int:
    """The pid that a process has in its own namespace."""
    for line in (path / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise ProcessLookupError(path.name)
