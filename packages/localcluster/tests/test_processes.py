"""Processes are identified by PID and start time, and killed only if both match."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localcluster import processes, state
from localcluster.errors import ClusterError
from localcluster.processes import Process


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    process = processes.launch("sleeper", ["/bin/sleep", "60"], tmp_path / "sleeper.log")
    yield process
    processes.kill([process])


def test_started_process_is_alive_in_its_own_session(sleeper: Process) -> None:
    assert processes.alive(sleeper)
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_process_with_a_reused_pid_is_not_killed(sleeper: Process) -> None:
    earlier = replace(sleeper, started=sleeper.started - 1)
    assert not processes.alive(earlier)
    processes.kill([earlier])
    assert processes.alive(sleeper)


def test_start_time_is_read_whatever_the_command_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = ["S", *(str(number) for number in range(4, 53))]
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (a) Z (b)) {' '.join(fields)}\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes.start_time(7) == 22
    assert processes.start_time(8) is None


def test_exited_process_is_not_alive(sleeper: Process) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while processes.alive(sleeper) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not processes.alive(sleeper)


def test_stopped_process_is_alive_and_can_be_killed(sleeper: Process) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    assert processes.alive(sleeper)
    processes.kill([sleeper])
    assert not processes.alive(sleeper)


def test_error_names_missing_program(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="tool cannot be started"):
        processes.launch("tool", [str(tmp_path / "missing")], tmp_path / "tool.log")


def test_last_line_skips_blank_lines(tmp_path: Path) -> None:
    log = tmp_path / "tool.log"
    log.write_text("starting\nport taken\n\n")
    assert processes.last_line(log) == "port taken"
    assert processes.last_line(tmp_path / "none.log") == "no log"


def test_written_state_is_read_back_unchanged(tmp_path: Path, sleeper: Process) -> None:
    # Not the name of the file of a cluster: at the end of a run with several workers, what it names would be stopped and deleted.
    file = tmp_path / "written.json"
    written = state.State("node", "https://10.211.0.2:6443", {"sleeper": sleeper}, {"veth": "none"}, ready=True)
    written.write(file)
    assert state.read(file) == written
    assert state.read(tmp_path / "none.json") is None
