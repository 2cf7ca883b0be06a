"""The operator is killed before or after each write, and the next process ends where an undisturbed one does."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from support.crashes import CREATE, DELETE, Crashes, Workload
from support.live import LIFE, Live
from support.operator_process import OperatorProcess
from support.oracles import recording, violations
from userstorage_operator.api.resources import Kind

pytestmark = [pytest.mark.kwok]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("workload", [CREATE, DELETE], ids=lambda workload: workload.name)
async def test_crash_at_any_write_changes_nothing_in_the_end(
    crashes: Callable[[Workload], Crashes],
    workload: Workload,
    after: bool,
    record_property: Callable[[str, object], None],
) -> None:
    these = crashes(workload)
    await these.run_reference()
    made = await these.crash_at_every_write(after=after)
    assert made >= these.certain_writes
    record_property("worst", f"{workload.name}: {made} crashes")


async def test_terminated_process_leaves_its_deletion_to_the_next(
    live: Live, as_operator: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    process = OperatorProcess(as_operator, tmp_path / "log", f"--namespace={live.namespace}")
    request.addfinalizer(process.kill)
    await asyncio.to_thread(process.start)
    await live.create(podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready()
    async with recording(live) as history:
        await live.delete_with("Background")
        await live.until(lambda: _is_terminating(live))
        assert await asyncio.to_thread(process.stop) == 0
        assert await live.get() is not None  # the finalizer holds it
        await asyncio.to_thread(process.start)
        await live.until_gone()
        await history.caught_up(live)
    assert violations(history) == []


async def _is_terminating(live: Live) -> bool:
    return "deletionTimestamp" in (await live.child(Kind.POD) or {"metadata": {}})["metadata"]
