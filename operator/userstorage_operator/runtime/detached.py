"""Calls in the background whose failure is for those who wait for them, and for no one else."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_running: set[asyncio.Task[None]] = set()
"""Keeps the tasks alive: the event loop has only weak references to them."""


def detached(call: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
    """Start `call` in a task of its own, and return the future of its result.

    The task itself never fails: when kopf stops, it raises what any task that was created after its start has raised, and the
    process would end with that error.
    """
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(_run(call, future))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return future


async def _run(call: Callable[[], Awaitable[T]], future: asyncio.Future[T]) -> None:
    try:
        result = await call()
    except asyncio.CancelledError:
        future.cancel()
        raise
    except Exception as error:  # noqa: BLE001  # for the callers that wait for the future
        if not future.done():
            future.set_exception(error)
            future.exception()  # marked as retrieved: all who waited may have been cancelled
    else:
        if not future.done():
            future.set_result(result)
