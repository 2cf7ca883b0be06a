"""The background tasks of a process, and the signals that end it."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from userstorage_operator.api.errors import OperatorError

Start = Callable[[Coroutine[Any, Any, None], str], None]
"""Starts a coroutine as a background task with the given name."""


@contextlib.asynccontextmanager
async def background(stop: asyncio.Event) -> AsyncIterator[Start]:
    """Yield a function that starts background tasks, and cancel these tasks when the context ends.

    A task that ends by itself is a fault. It sets `stop`, because a restart is better than an operator without one of its
    parts. Raises OperatorError if a task ended by itself.
    """
    tasks: list[asyncio.Task[None]] = []
    faults: list[str] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            faults.append(f"{task.get_name()} ended: {task.exception()!r}")
            stop.set()

    def start(coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(ended)
        tasks.append(task)

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if faults:
        raise OperatorError("; ".join(faults))


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM or SIGINT. This is needed from the start, because process 1 of a container ignores SIGTERM by
    default. kopf replaces the signal handlers later.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
