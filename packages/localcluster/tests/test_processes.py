"""Processes are known by pid and start time together, and ended only where both agree."""

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
    processes.end([process])


def test_a_started_process_is_alive_in_a_session_of_its_own(sleeper: Process) -> None:
    assert processes.alive(sleeper)
    assert os.getsid(sleeper.pid) == sleeper.pid


def test_a_pid_that_another_process_has_now_is_not_ours(sleeper: Process) -> None:
    earlier = replace(sleeper, started=sleeper.started - 1)
    assert not processes.alive(earlier)
    processes.end([earlier])
    assert processes.alive(sleeper)


def test_the_start_time_is_found_behind_any_command_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = ["S", *(str(number) for number in range(4, 53))]
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (a) Z (b)) {' '.join(fields)}\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert processes.start_time(7) == 22
    assert processes.start_time(8) is None


def test_a_process_that_has_ended_is_not_alive(sleeper: Process) -> None:
    os.kill(sleeper.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.alive(sleeper) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not processes.alive(sleeper)


def test_a_stopped_process_is_alive_and_can_be_ended(sleeper: Process) -> None:
    os.kill(sleeper.pid, signal.SIGSTOP)
    assert processes.alive(sleeper)
    processes.end([sleeper])
    assert not processes.alive(sleeper)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="tool cannot be started"):
        processes.launch("tool", [str(tmp_path / "missing")], tmp_path / "tool.log")


def test_the_last_line_that_says_something_is_found(tmp_path: Path) -> None:
    log = tmp_path / "tool.log"
    log.write_text("starting\nport taken\n\n")
    assert processes.last_line(log) == "port taken"
    assert processes.last_line(tmp_path / "none.log") == "it left no log"


def test_the_state_of_a_cluster_reads_as_it_was_written(tmp_path: Path, sleeper: Process) -> None:
    written = state.State("node", "https://10.211.0.2:6443", {"sleeper": sleeper}, {"cable": "localcluster0"}, ready=True)
    written.write(tmp_path / "state.json")
    assert state.read(tmp_path / "state.json") == written
    assert state.read(tmp_path / "none.json") is None
