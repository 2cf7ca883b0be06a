"""A call in the background fails for those who wait for it, and not for kopf, which raises what any task of the loop has raised."""

import asyncio
import gc
from typing import Any

import pytest

from userstorage_operator.api.errors import Unavailable
from userstorage_operator.runtime.detached import detached
from userstorage_operator.runtime.single_flight import SingleFlight


async def fail() -> None:
    await asyncio.sleep(0)
    raise Unavailable(0, "no answer from the API server")


def other_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@pytest.mark.parametrize("start", [detached, lambda call: SingleFlight[str, None]().start("key", call)])
async def test_failure_is_raised_for_each_caller_and_by_no_task(start: Any) -> None:
    logged: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    future = start(fail)
    tasks = other_tasks()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await asyncio.shield(future)
    assert [task.exception() for task in tasks] == [None]
    del future
    start(fail)  # without a caller
    await asyncio.gather(*other_tasks())
    gc.collect()
    assert logged == []


async def test_cancelled_task_cancels_its_callers() -> None:
    future = detached(asyncio.Event().wait)
    [task] = other_tasks()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.shield(future)
