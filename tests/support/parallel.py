"""Tests on several workers at once (`make test`, pytest-xdist): what stays together, what begins first, what runs alone.

Each worker has a control plane of its own, so tests that share no fixture may go to any worker. A run without workers
is as if this were not here.
"""

import fcntl
from collections.abc import Generator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

import localcluster

HERE = Path(__file__).parents[1]
FIRST = (
    "e2e",
    "cluster/test_many.py",
    "component/test_bad_inputs.py",
    "component/test_lifecycle.py",
    "component/test_repair.py",
    "component/test_exposure.py",
    "cluster/test_rollout.py",
)
"""What takes minutes: begun last, it would keep one worker busy when the others have nothing left. The two of two hundred
users are busy all the time and so stand apart.
"""
SPREAD = frozenset(
    {
        "component/test_interrupted.py",
        "component/test_lifecycle.py",
        "component/test_repair.py",
        "component/test_exposure.py",
        "component/test_deletion.py",
    }
)
"""Long files whose tests share no fixture: each test may go to another worker."""


class Groups(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Gives a worker one group after another, in the order of collection.

    In place of `--dist loadgroup`, which does nothing from pytest 9.2 on (pytest-xdist issue 1386).
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: compares times: no other test runs meanwhile, whatever the number of workers")


@pytest.hookimpl(optionalhook=True)  # -p no:xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_worker(config):
        items.sort(key=turn_of)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker that was interrupted or has crashed leaves its clusters behind."""
    if not is_worker(session.config):
        for state in base_of(session.config).glob("popen-*/*/state.json"):
            localcluster.stop(state.parent)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of pytest-timeout, which would count the waiting
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Others may run beside a test unless it is marked `alone`; that one waits for them, and they for it."""
    if not is_worker(item.config):
        return (yield)
    shared = base_of(item.config).parent
    alone = item.get_closest_marker("alone") is not None
    with (shared / "turn.lock").open("w") as turn, (shared / "room.lock").open("w") as room:
        fcntl.flock(turn, fcntl.LOCK_EX)  # or those that begin meanwhile would keep it waiting for ever
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        return (yield)


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def base_of(config: pytest.Config) -> Path:
    """The directory of all temporary ones of this process; those of workers lie in that of the process they work for."""
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return base


def group_of(nodeid: str) -> str:
    """The tests of one group run on one worker, one after the other: a file, a test of a file that is spread, and all of
    e2e, as there may be one node cluster at a time.
    """
    file = nodeid.partition("::")[0].removeprefix("tests/")
    if file.startswith("e2e/"):
        return "e2e"
    return nodeid if file in SPREAD else file


def turn_of(item: pytest.Item) -> int:
    """Long ones first, pure ones to fill up, and last those that keep all others waiting."""
    if item.get_closest_marker("alone"):
        return len(FIRST) + 2
    for number, long in enumerate(FIRST):
        if item.path.is_relative_to(HERE / long):
            return number
    pure = item.path.is_relative_to(HERE / "unit") or not item.path.is_relative_to(HERE)
    return len(FIRST) + pure
