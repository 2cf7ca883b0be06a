"""Groups of tests: those that run on one worker."""

import os
import subprocess
import sys
import uuid

import pytest

from support.parallel import FIRST, HERE, RUN_ID, SPREAD, group_of, kill_processes_of, part_of

PARTS = {part_of(path.relative_to(HERE).as_posix()) for path in HERE.rglob("test_*.py")}


@pytest.mark.parametrize("name", sorted({*FIRST, *SPREAD}))
def test_parts_that_start_first_or_are_spread_over_workers_exist(name: str) -> None:
    assert name in PARTS


@pytest.mark.parametrize("name", sorted(SPREAD))
def test_file_spread_over_workers_has_no_shared_fixture(name: str) -> None:
    assert "scope=" not in (HERE / name).read_text()


def test_worker_group_is_a_part_of_e2e_one_file_or_one_test() -> None:
    assert group_of("tests/e2e/test_a.py::test_x") == group_of("tests/e2e/test_b.py::test_y")
    assert group_of("tests/e2e/test_gateways.py::test_x") == group_of("tests/e2e/test_gateway_threats.py::test_y")
    assert group_of("tests/e2e/test_gateways.py::test_x") != group_of("tests/e2e/test_a.py::test_x")
    nginx, caddy = (f"tests/e2e/test_gateways.py::test_x[{gateway}-y]" for gateway in ("nginx", "caddy"))
    assert group_of(nginx) == group_of(caddy)
    assert group_of(nginx, each_gateway=True) != group_of(caddy, each_gateway=True)
    assert group_of("tests/unit/test_a.py::test_x") == group_of("tests/unit/test_a.py::test_y[1]")
    spread = f"tests/{min(SPREAD)}"
    assert group_of(f"{spread}::test_x") != group_of(f"{spread}::test_y")


@pytest.mark.skipif(sys.platform != "linux", reason="the environment of another process is in /proc of Linux")
def test_processes_of_a_run_that_was_interrupted_are_killed() -> None:
    run = uuid.uuid4().hex
    sleepers = [subprocess.Popen(["sleep", "600"], env={**os.environ, RUN_ID: name}) for name in (run, "other")]
    mine, other = sleepers
    try:
        assert kill_processes_of(run) == ["sleep"]
        assert mine.wait(timeout=60) == -9
        assert other.poll() is None
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()
