"""Requeue the rest of the groups that are too large to be requeued on each change (`arbitration/crowds.py`)."""

import asyncio
from collections.abc import Callable, Iterable

from userstorage_operator.api.userstorage import Key

_PERIOD = 1.0
"""Minimum seconds between two looks."""
_PER_SECOND = 50
"""How many are requeued in a second on average: each of them may write its status, and the API server serves others too."""
_STRETCH = 300
"""How many are requeued before the event loop gets its turn."""


async def requeue_crowds(take: Callable[[], list[Key]], enqueue: Callable[[Key], None]) -> None:
    """Call `enqueue` for each key that `take` returns, until cancelled: the larger the groups, the longer the pauses."""
    while True:
        keys = take()
        await in_stretches(keys, enqueue)
        await asyncio.sleep(max(_PERIOD, len(keys) / _PER_SECOND))


async def in_stretches(keys: Iterable[Key], enqueue: Callable[[Key], None]) -> None:
    """Call `enqueue` for each key. The event loop gets its turn in between."""
    for number, key in enumerate(keys):
        enqueue(key)
        if number % _STRETCH == 0:
            await asyncio.sleep(0)
