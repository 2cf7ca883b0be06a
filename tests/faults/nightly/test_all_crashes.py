"""Crashes in the workloads that are longer than a creation or a deletion, two crashes in a row, and real processes."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from support import faultproxy
from support.crashes import (
    BURST,
    BURST_OF_CREATIONS,
    CHANGE_CLASS,
    CREATE,
    DELETE,
    DELETE_DURING_CREATE,
    RECREATE,
    UPDATE,
    Crashes,
    Workload,
)
from support.faultproxy import Effect, Fault
from support.live import Live
from support.operator_process import OperatorProcess
from support.oracles import recording, violations
from userstorage_operator.status import requeue

pytestmark = [pytest.mark.kwok]

PARTS = 5
"""Bursts over which the crashes are spread. As a user has six writes, each burst has crashes at all kinds of writes."""
WRITES = {
    "patch userstorages",
    "create networkpolicies",
    "create services",
    "create persistentvolumeclaims",
    "create pods",
    "patch userstorages/status",
}
"""Of a creation."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("workload", [UPDATE, DELETE_DURING_CREATE, RECREATE, CHANGE_CLASS], ids=lambda workload: workload.name)
async def test_crash_at_any_write_of_a_longer_workload_changes_nothing_in_the_end(
    crashes: Callable[[Workload], Crashes],
    workload: Workload,
    after: bool,
    record_property: Callable[[str, object], None],
) -> None:
    these = crashes(workload)
    await these.run_reference()
    made = await these.crash_at_every_write(after=after)
    assert made >= len(these.writes) - these.status_writes
    record_property("worst", f"{workload.name}: {made} crashes")


@pytest.mark.parametrize("workload", [CREATE, DELETE], ids=lambda workload: workload.name)
async def test_second_crash_at_the_first_write_changes_nothing_in_the_end(
    crashes: Callable[[Workload], Crashes], workload: Workload
) -> None:
    these = crashes(workload)
    await these.run_reference()
    assert await these.crash_at_every_write(after=True, twice=True) >= these.certain_writes


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("part", range(PARTS))
async def test_crash_at_any_write_of_a_burst_changes_nothing_in_the_end(
    crashes: Callable[[Workload], Crashes],
    part: int,
    after: bool,
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for delay in ("REPORT_DELAY", "REPORT_DELAY_IN_BURST"):  # else the details of claims are written minutes later
        monkeypatch.setattr(requeue, delay, timedelta())
    these = crashes(BURST_OF_CREATIONS)
    await these.run_reference()
    by_user = sorted({(write.name.removeprefix("user-storage-"), write.what, write.name) for write in these.writes})
    writes = [(what, name) for _, what, name in by_user]
    assert len(writes) == BURST * len(WRITES)
    assert {what for what, _ in writes} == WRITES
    await these.crash_at_each_of(writes[part::PARTS], after=after)
    these.check_silence()
    record_property("worst", f"burst: {len(writes)} writes in {PARTS} runs")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", ["create pods", "patch userstorages", "patch userstorages/status"])
async def test_killed_process_is_continued_by_the_next(
    live: Live, as_operator: Path, tmp_path: Path, write: str, after: bool
) -> None:
    verb, _, rest = write.partition(" ")
    resource, _, subresource = rest.partition("/")
    with faultproxy.running(as_operator, tmp_path) as proxy, contextlib.ExitStack() as stack:
        process = OperatorProcess(proxy.kubeconfig, tmp_path / "log", f"--namespace={live.namespace}")
        stack.callback(process.kill)
        process.start()
        killed: list[bool] = []

        def kill() -> None:
            process.kill()
            killed.append(True)

        fault = Fault(
            verb=verb, resource=resource, subresource=subresource, times=1, effect=Effect.CALL, after=after, hook=kill
        )
        # A request that the proxy holds when its client dies is still in flight: as "before", it must not arrive.
        proxy.fail(fault, *([] if after else [replace(fault, effect=Effect.DROP, hook=None)]))
        async with recording(live) as history:
            await live.create()

            async def is_killed() -> bool:
                return bool(killed)

            await live.until(is_killed)
            await asyncio.to_thread(process.start)
            await live.until_ready()
            await history.caught_up(live)
        assert violations(history, proxy.requests) == []
