"""The background tasks of a process, and the signals that end it."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from userstorage_operator.api.errors import OperatorError


class BackgroundTasks:
    """The tasks of one `background` context."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._tasks: list[asyncio.Task[None]] = []
        self.faults: list[str] = []
        """Messages about the tasks that ended by themselves."""

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Start a coroutine as a task with the given name."""
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    async def cancel(self) -> None:
        """Cancel all tasks, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self.faults.append(f"{task.get_name()} ended: {task.exception()!r}")
            self._stop.set()


@contextlib.asynccontextmanager
async def background(stop: asyncio.Event) -> AsyncIterator[BackgroundTasks]:
    """Yield an object that starts background tasks, and cancel these tasks when the context ends.

    A task that ends by itself is a fault. It sets `stop`, because a restart is better than an operator without one of its
    parts. Raises OperatorError if a task ended by itself.
    """
    tasks = BackgroundTasks(stop)
    try:
        yield tasks
    finally:
        await tasks.cancel()
    if tasks.faults:
        raise OperatorError("; ".join(tasks.faults))


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set `stop` on SIGTERM or SIGINT. This is needed from the start, because process 1 of a container ignores SIGTERM by
    default. kopf replaces the signal handlers later.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
