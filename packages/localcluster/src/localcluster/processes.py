"""Background processes that keep running when the process that started them exits. They are found and killed by their PID.

A PID alone does not identify a process, because the kernel reuses it. So every record also has the start time of its process,
and a signal is sent only if both match.
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
    """The record of a started process. `started` is its start time, in clock ticks since boot."""

    name: str
    command: tuple[str, ...]
    log: Path
    pid: int
    started: int


Launch = Callable[[str, Sequence[str], Path], Process]
"""A function that starts a command in the background. It gets a name, the command and the file to append the output to."""


def start_time(pid: int) -> int | None:
    """Return the start time of the process with that PID, in clock ticks since boot. None if it has exited or is a zombie."""
    try:
        # The command name is in parentheses and may contain any character, so fields are counted after the last parenthesis.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def record(name: str, command: Sequence[str], log: Path, pid: int) -> Process:
    """Return the record of the process with the PID `pid`, just started. Raises ClusterError if it has exited already."""
    started = start_time(pid)
    if started is None:
        raise ClusterError(f"{name} exited at once: {last_line(log)} (log: {log})")
    return Process(name, tuple(command), log, pid, started)


def alive(process: Process) -> bool:
    """Whether the recorded process still runs. False if another process has its PID now."""
    _reap(process.pid)
    return start_time(process.pid) == process.started


def launch(name: str, command: Sequence[str], log: Path) -> Process:
    """Start a command in a new session, without the open files of this process. Its output is appended to the file `log`.

    Raises ClusterError if the command cannot be started.
    """
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
            # Python ignores these two signals, and a program would inherit that.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    except OSError as error:
        raise ClusterError(f"{name} cannot be started: {error}") from error
    return record(name, command, log, pid)


def kill(processes: Iterable[Process]) -> None:
    """Send SIGKILL to those processes that still run, and wait until they have ended.

    Raises ClusterError if a process still runs after 30 s. SIGTERM is not enough: a process that is stopped by SIGSTOP does not
    react to it, and callers delete the data of the processes next.
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
                raise ClusterError(f"{process.name} (pid {process.pid}) still runs 30 s after SIGKILL")
            time.sleep(0.01)


def last_line(log: Path) -> str:
    """Return the last line of a log file that is not blank, cut to 300 characters; `no log` if there is none."""
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        lines = []
    return lines[-1][:300] if lines else "no log"


def _reap(pid: int) -> None:
    """Reap the process with that PID if it is an exited child of this process. Else it would stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
