"""Requeue the rest of the groups that are too large to be requeued on each change (`arbitration/crowds.py`)."""

import asyncio
from collections.abc import Callable

from userstorage_operator.api.userstorage import Key

_PERIOD = 1.0
"""Minimum seconds between two looks."""
_PER_SECOND = 100
"""How many are requeued in a second on average: each of them may write its status."""
_STRETCH = 300
"""How many are requeued before the event loop gets its turn."""


async def requeue_crowds(take: Callable[[], list[Key]], enqueue: Callable[[Key], None]) -> None:
    """Call `enqueue` for each key that `take` returns, until cancelled: the larger the groups, the longer the pauses."""
    while True:
        keys = take()
        for start in range(0, len(keys), _STRETCH):
            for key in keys[start : start + _STRETCH]:
                enqueue(key)
            await asyncio.sleep(0)
        await asyncio.sleep(max(_PERIOD, len(keys) / _PER_SECOND))
