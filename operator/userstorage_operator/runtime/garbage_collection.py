"""Full garbage collections at regular intervals.

Python collects when enough objects have been created, and a process that does little creates too few: with our thresholds, what is
unreachable but in a reference cycle (an exception with its traceback, a response of aiohttp) could wait for fifteen hours.
"""

import asyncio
import gc

_PERIOD = 300.0
"""Seconds between two full collections. One takes some 20 ms for 100,000 objects; what was there at the start is frozen."""


async def collect_periodically() -> None:
    """Collect until cancelled."""
    while True:
        await asyncio.sleep(_PERIOD)
        gc.collect()
