"""Full collections free what is in reference cycles, also in a process that creates few objects."""

import asyncio
import gc
import weakref

import pytest

from userstorage_operator.runtime import garbage_collection
from userstorage_operator.runtime.garbage_collection import collect_periodically


class Cycle:
    """An object that only a garbage collection frees."""

    def __init__(self) -> None:
        self.itself = self


async def test_cycles_are_freed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage_collection, "_PERIOD", 0.0)
    gc.disable()  # none by the number of objects
    try:
        freed = weakref.ref(Cycle())
        assert freed() is not None
        task = asyncio.create_task(collect_periodically())
        while freed() is not None:  # noqa: ASYNC110  # collections have no event
            await asyncio.sleep(0)
        task.cancel()
    finally:
        gc.enable()
