"""A TCP proxy on loopback, in front of a Redis: it delays, stalls and resets connections."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass
class RedisProxy:
    """The proxy and its faults. `delay` (seconds) applies to every response."""

    upstream_port: int
    port: int = 0
    delay: float = 0.0
    connections: int = 0  # accepted so far
    _flows: asyncio.Event = field(default_factory=asyncio.Event)
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _refuses: bool = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stall(self) -> None:
        """Forward nothing from now on, in either direction."""
        self._flows.clear()

    def reset(self) -> None:
        """Close every open and new connection with a RST from now on."""
        self._refuses = True
        for writer in tuple(self._open):
            _abort(writer)

    def heal(self) -> None:
        """Forward everything from now on."""
        self.delay, self._refuses = 0.0, False
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it is closed."""
        self.connections += 1
        self._open.add(writer)
        try:
            if self._refuses:
                _abort(writer)
                return
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
            try:
                tasks = [
                    asyncio.create_task(self._pump(reader, up_writer, responses=False)),
                    asyncio.create_task(self._pump(up_reader, writer, responses=True)),
                ]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                up_writer.close()
        finally:
            self._open.discard(writer)
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, responses: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flows.wait()
                if responses:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()


@contextlib.asynccontextmanager
async def running(upstream_port: int) -> AsyncIterator[RedisProxy]:
    """Run a proxy that is transparent until a fault is set."""
    proxy = RedisProxy(upstream_port)
    proxy.heal()
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a RST instead of a FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
