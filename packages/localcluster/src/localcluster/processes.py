"""Background processes that outlive their starter, and are found again and ended by pid and by nothing else.

A pid alone is no identity: once its process is gone the kernel gives it to another. So every record carries the time
its process started as well, and a process is only touched while both agree.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import ClusterError

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """A process that was started: its name in the cluster, command, log file, pid and start time in clock ticks."""

    name: str
    command: tuple[str, ...]
    log: Path
    pid: int
    started: int


Launch = Callable[[str, Sequence[str], Path], Process]
"""Starts a command, under the given name, with its output appended to the given file."""


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None where there is none, or only its exit code is left."""
    try:
        # The command name stands in parentheses and may hold anything, so fields are counted from the last one.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def record(name: str, command: Sequence[str], log: Path, pid: int) -> Process:
    """The record of a process that was just started. ClusterError where it has ended already."""
    started = start_time(pid)
    if started is None:
        raise ClusterError(f"{name} ended at once: {last_line(log)} (log: {log})")
    return Process(name, tuple(command), log, pid, started)


def alive(process: Process) -> bool:
    """Whether that very process, not a later one of the same pid, still runs."""
    _reap(process.pid)
    return start_time(process.pid) == process.started


def launch(name: str, command: Sequence[str], log: Path) -> Process:
    """Start a command in a session of its own, holding none of the caller's files. ClusterError where it cannot run."""
    log.parent.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        pid = os.posix_spawn(
            command[0],
            list(command),
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            # Python ignores these two, and a program would inherit that.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        raise ClusterError(f"{name} cannot be started: {error}") from error
    return record(name, command, log, pid)


def end(processes: Iterable[Process]) -> None:
    """Kill the processes that still run and wait until they are gone. ClusterError where one is not after 30 s.

    Killed, not asked: what they would save on a regular end is deleted next, and a stopped one would not hear it.
    """
    running = [process for process in processes if alive(process)]
    for process in running:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + 30
    for process in running:
        while alive(process):
            if time.monotonic() > deadline:
                raise ClusterError(f"{process.name} (pid {process.pid}) does not end, though killed")
            time.sleep(0.01)


def last_line(log: Path) -> str:
    """The last line of a log file that says anything, shortened to 300 characters."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        lines = []
    return lines[-1][:300] if lines else "it left no log"


def _reap(pid: int) -> None:
    """Take the exit code of an ended child, so that it does not stay as a zombie for as long as the caller lives."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
