"""The end of TLS connections: aiohttp closes them, but their transports need a few more turns of the loop."""

import asyncio

_PAUSE = 0.005
_PAUSES = 50
"""Together a quarter of a second: what aiohttp's documentation has one wait between the end of a TLS session and of its loop."""


async def until_connections_closed() -> None:
    """Wait until the loop watches no connection any more, or as long as is always enough: other clients may have some."""
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    for _ in range(_PAUSES):
        await asyncio.sleep(_PAUSE)  # also at the end: the transports learn of it in the next turn
        if len(selector.get_map()) <= 1:  # the loop wakes itself by one
            break
    await asyncio.sleep(_PAUSE)
