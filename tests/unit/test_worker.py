"""Progress of the workers, and the results that they report."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from support.clock import FakeClock
from userstorage_operator.runtime import worker
from userstorage_operator.runtime.worker import Result, WorkerPool
from userstorage_operator.runtime.workqueue import WorkQueue


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock(0.0)
    monkeypatch.setattr(worker, "time", clock)
    return clock


@contextlib.asynccontextmanager
async def working(
    reconcile: Callable[[str, int], Awaitable[Result]], workers: int = 2
) -> AsyncIterator[tuple[WorkQueue[str], WorkerPool[str], list[Result]]]:
    results: list[Result] = []
    queue: WorkQueue[str] = WorkQueue(lambda _: 3600)
    pool = WorkerPool(queue, reconcile, lambda result, _: results.append(result))
    tasks = [asyncio.create_task(pool.work()) for _ in range(workers)]
    yield queue, pool, results
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_hanging_reconcile_is_detected_while_others_make_progress(clock: FakeClock) -> None:
    async def reconcile(key: str, failures: int) -> Result:
        if key == "frozen":
            await asyncio.Event().wait()
        return Result()

    async with working(reconcile) as (queue, pool, results):
        queue.add("frozen")
        await turns()
        clock.now = 50
        queue.add("alice")
        await turns()
        assert results == [Result()]
        assert pool.stuck_for() == 50


async def test_workers_are_not_stuck_while_reconciles_end(clock: FakeClock) -> None:
    async def reconcile(key: str, failures: int) -> Result:
        clock.now += 5
        return Result()

    async with working(reconcile) as (queue, pool, results):
        for n in range(20):
            queue.add(f"u{n}")
        await turns(100)
        assert len(results) == 20
        assert pool.stuck_for() == 0
        clock.now += 1000
        assert pool.stuck_for() == 0


async def test_crashed_reconcile_is_an_internal_error_and_requeued() -> None:
    async def reconcile(key: str, failures: int) -> Result:
        raise ZeroDivisionError

    async with working(reconcile) as (queue, pool, results):
        queue.add("alice")
        await turns()
        assert [(result.reason, result.retry) for result in results] == [("InternalError", True)]
        assert queue.num_requeues("alice") == 1
        assert pool.stuck_for() == 0


async def test_failure_after_the_end_of_writing_is_none_of_the_object() -> None:
    async def reconcile(key: str, failures: int) -> Result:
        queue.shut_down()
        return Result(reason="NotLeading", retry=True, error="write refused")

    saved: list[str] = []
    queue: WorkQueue[str] = WorkQueue(lambda _: 0.0, lambda key, _failures, _delay: saved.append(key))
    results: list[Result] = []
    pool = WorkerPool(queue, reconcile, lambda result, _: results.append(result))
    task = asyncio.create_task(pool.work())
    queue.add("alice")
    await turns()
    task.cancel()
    assert (saved, results, queue.num_requeues("alice")) == ([], [], 0)
