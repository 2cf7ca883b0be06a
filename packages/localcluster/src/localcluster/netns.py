"""The network, mount and PID namespaces of a node.

If the first process of the PID namespace is killed, the kernel kills every process in the namespaces. It also removes the
mounts, network interfaces and firewall rules in them. A node has only two things outside of its namespaces: one end of the veth
pair, which the kernel removes with the other end, and the changes to this machine that `node.py` records to undo.
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
    """The namespaces of a node. `pid` is the PID of their first process, as seen from outside of the namespaces."""

    pid: int

    def run(self, command: Sequence[str]) -> str:
        """Run a command in the namespaces and return its standard output. Raises ClusterError if the command fails."""
        return run(["nsenter", f"--target={self.pid}", *NAMESPACES, "--", *command])

    def launch(self, name: str, command: Sequence[str], log: Path) -> Process:
        """Start a command in the namespaces, in the background, and return the record of its process.

        The output is appended to the file `log`. Raises ClusterError if the command exits at once.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        # The shell exits at once, so the command becomes a child of the first process, which reaps it.
        start = f"setsid {shlex.join(command)} </dev/null >>{shlex.quote(str(log))} 2>&1 & echo $!"
        inner = int(self.run(["/bin/sh", "-c", start]))
        outer = self._outer_pid(inner)
        if outer is None:
            raise ClusterError(f"{name} exited at once: {processes.last_line(log)} (log: {log})")
        return processes.record(name, command, log, outer)

    def _outer_pid(self, inner: int) -> int | None:
        """Return the PID outside of the namespaces of the process that has the PID `inner` in them; None if it has exited."""
        namespace = (PROC / str(self.pid) / "ns" / "pid").readlink()
        for path in PROC.iterdir():
            if not path.name.isdigit():
                continue
            try:
                if (path / "ns" / "pid").readlink() == namespace and _innermost_pid(path) == inner:
                    return int(path.name)
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # the process has exited, or belongs to another user
        return None


def create(log: Path, on_start: Callable[[Process], None]) -> Namespace:
    """Create the namespaces of a node, which two processes keep alive. `on_start` is called with the record of each process.

    Raises ClusterError if the kernel refuses to create the namespaces.
    """
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
    on_start(holder)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not processes.alive(holder):
            break
        first = _first_process(holder.pid)
        if first is not None:
            on_start(processes.record("namespace", ["catatonit"], log, first))
            return Namespace(first)
        time.sleep(0.01)
    raise ClusterError(f"the kernel refuses to create namespaces: {processes.last_line(log)}")


def run(command: Sequence[str]) -> str:
    """Run a command outside of the namespaces and return its standard output. Raises ClusterError if the command fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(f"{shlex.join(command)[:200]} failed: {lines[-1] if lines else 'no output'}")
    return done.stdout


def _first_process(holder: int) -> int | None:
    """Return the PID of the first process in the namespaces, which `unshare` starts; None before it runs.

    `holder` is the PID of `unshare`.
    """
    children = (PROC / str(holder) / "task" / str(holder) / "children").read_text().split()
    if not children:
        return None
    command = (PROC / children[0] / "comm").read_text().strip()
    return int(children[0]) if command == "catatonit" else None


def _innermost_pid(path: Path) -> int:
    """Return the PID that a process has in its own PID namespace. `path` is the directory of the process in /proc."""
    for line in (path / "status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    raise ProcessLookupError(path.name)
