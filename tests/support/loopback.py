"""An aiohttp server of the test's process on the loopback address, in a thread of its own: for clients that are not asynchronous."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future

from aiohttp import web

from support.kubectl import PATIENCE

Runner = web.AppRunner | web.ServerRunner


@contextlib.contextmanager
def serving(create: Callable[[], Awaitable[Runner]]) -> Iterator[str]:
    """Serve what `create`, called on the server's event loop, returns. Yield its base URL."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]] = Future()

    async def serve() -> None:
        runner, stop = await create(), asyncio.Event()
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        ready.set_result((asyncio.get_running_loop(), stop, f"http://{host}:{port}"))
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    loop, stop, url = ready.result(PATIENCE)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
    assert not thread.is_alive()
