"""A server of the test's process on the loopback address, in a thread of its own: for clients that are not asynchronous."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from support.kubectl import PATIENCE


@contextlib.asynccontextmanager
async def running(runner: web.AppRunner) -> AsyncIterator[int]:
    """Serve an aiohttp application. Yield its port."""
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.contextmanager
def serving(serve: Callable[[], AbstractAsyncContextManager[int]]) -> Iterator[str]:
    """Enter what `serve`, called on the server's event loop, returns: a server, by its port. Yield its base URL."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]] = Future()

    async def until_stopped() -> None:
        async with serve() as port:
            stop = asyncio.Event()
            ready.set_result((asyncio.get_running_loop(), stop, f"http://127.0.0.1:{port}"))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(until_stopped(),))
    thread.start()
    loop, stop, url = ready.result(PATIENCE)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)
    assert not thread.is_alive()
