"""Tests on several workers (`make test`, pytest-xdist): which run on one worker, which start first, which run alone.

Each worker has its own control plane, so tests that share no fixture may run on any worker. Without workers this module has
no effect.
"""

import contextlib
import fcntl
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

import localcluster
from testservers.frontdoor import GATEWAYS

HERE = Path(__file__).parents[1]
FIRST = (
    "e2e",
    "cluster/test_redis_proof.py",
    "faults/nightly/test_replicas.py",
    "faults/nightly/test_all_crashes.py",
    "cluster/test_election.py",
    "cluster/test_etcd_restore.py",
    "component/test_bad_inputs.py",
    "gateways",
    "cluster/test_many.py",
    "component/test_repair.py",
    "component/test_deletion.py",
    "component/test_lifecycle.py",
    "component/test_volume_affinity.py",
    "component/test_classes.py",
    "cluster/test_upgrade.py",
)
"""Parts that take minutes, and those that wait for most of their time first. Started last, they would keep one worker busy
after the others have finished.
"""
SPREAD = frozenset(
    {
        "cluster/test_etcd_restore.py",
        "cluster/test_upgrade.py",
        "component/test_classes.py",
        "component/test_deletion.py",
        "component/test_exposure.py",
        "component/test_gate.py",
        "component/test_interrupted.py",
        "component/test_lifecycle.py",
        "component/test_lost_claim.py",
        "component/test_other_writers.py",
        "component/test_repair.py",
        "component/test_volume_affinity.py",
        "faults/test_crashes.py",
        "faults/test_stale.py",
        "faults/test_api_faults.py",
        "faults/nightly/test_all_crashes.py",
        "faults/nightly/test_api_faults.py",
        "faults/nightly/test_watches.py",
        "model/test_reconciler_model.py",
    }
)
"""Long files whose tests share no fixture: each test may run on another worker."""

RUN_ID = "PYTEST_XDIST_TESTRUNUID"
"""Environment variable that xdist sets in its workers, and that all have that these start."""
_RUN = pytest.StashKey[str]()


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Schedules one group after another, in the order of collection.

    In place of `--dist loadgroup`, which does nothing from pytest 9.2 on (pytest-xdist issue 1386).
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid, each_gateway=self.config.getoption("--all-gateways"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: compares times; no other test runs at the same time, with any number of workers")


@pytest.hookimpl(optionalhook=True)  # -p no:xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_worker(config):
        items.sort(key=position_of)


@pytest.hookimpl(optionalhook=True)  # -p no:xdist
def pytest_configure_node(node: Any) -> None:
    node.config.stash[_RUN] = node.workerinput["testrunuid"]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the clusters of workers that were interrupted or have crashed, and what else these have started."""
    if is_worker(session.config):
        return
    for state in temporary_base(session.config).glob("popen-*/*/state.json"):
        localcluster.stop(state.parent)
    if (run := session.config.stash.get(_RUN, None)) is not None and (killed := kill_processes_of(run)):
        reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line("killed, as no test had stopped them: " + ", ".join(killed))


def kill_processes_of(run: str) -> list[str]:
    """Kill all processes whose environment names this run, as xdist has it, so that its workers have started them. Return what they
    were, without arguments.
    """
    marker, killed = f"{RUN_ID}={run}".encode(), list[str]()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if marker in (process / "environ").read_bytes().split(b"\0"):
                killed.append((process / "comm").read_text().strip())
                os.kill(int(process.name), signal.SIGKILL)
    return killed


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of pytest-timeout, which would count the waiting
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Hold a shared lock during each test, or an exclusive one if it is marked `alone`."""
    if not is_worker(item.config):
        return (yield)
    shared = temporary_base(item.config).parent
    alone = item.get_closest_marker("alone") is not None
    with (shared / "turn.lock").open("w") as turn, (shared / "room.lock").open("w") as room:
        fcntl.flock(turn, fcntl.LOCK_EX)  # else tests that start in the meantime would keep it waiting forever
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        return (yield)


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def temporary_base(config: pytest.Config) -> Path:
    """Return the base of temporary directories of this process. A worker's is in that of its controller."""
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return base


def part_of(file: str) -> str:
    """Return the part of the tests that a file, relative to tests/, belongs to: the file itself, or one of the two parts of e2e.

    The tests of each have a node cluster in common, and those of gateways a login as well.
    """
    if file.startswith("e2e/"):
        return "gateways" if file.startswith("e2e/test_gateway") else "e2e"
    return file


def group_of(nodeid: str, *, each_gateway: bool = False) -> str:
    """Return the group of a test: its part, or the test alone if its file is in SPREAD; with `each_gateway` the gateway that the
    parameters of the test name.

    The tests of a group run one after the other on one worker.
    """
    file, _, test = nodeid.removeprefix("tests/").partition("::")
    if file in SPREAD:
        return nodeid
    part = part_of(file)
    named = test.partition("[")[2].removesuffix("]").partition("-")[0]
    return f"{part}: {named}" if each_gateway and named in GATEWAYS else part


def position_of(item: pytest.Item) -> int:
    """Return the position of a test: long files first, tests without a cluster late, tests that run alone last."""
    if item.get_closest_marker("alone"):
        return len(FIRST) + 2
    if not item.path.is_relative_to(HERE):
        return len(FIRST) + 1
    part = part_of(item.path.relative_to(HERE).as_posix())
    return FIRST.index(part) if part in FIRST else len(FIRST) + part.startswith("unit/")
