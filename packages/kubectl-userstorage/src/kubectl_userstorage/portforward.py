"""One connection to a port of a pod: the WebSocket of `pods/portforward`, with the kubelet's protocol `v4.channel.k8s.io`.

The first byte of each message is its channel: 0 for data, 1 for the text of an error. On both, the kubelet first sends the port, as
two bytes. The end of the WebSocket is the end of the connection: one direction cannot be closed alone.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx_ws

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_PORT_SIZE = 2
_CLOSE_MAX = 5.0
"""Seconds for the end of the WebSocket to be sent: a pod that reads nothing holds it up."""

OpenSocket = Callable[[], AbstractAsyncContextManager[httpx_ws.AsyncWebSocketSession]]


class Channels:
    """Takes apart the messages of the kubelet for one port."""

    def __init__(self) -> None:
        self._port_bytes = {_DATA: _PORT_SIZE, _ERROR: _PORT_SIZE}
        """Bytes of the port that are still to come, by channel."""

    def data(self, message: bytes) -> bytes:
        """Return the data of a message, empty if it has none. Raises ConnectionError with the text of the error channel."""
        channel, content = message[0] if message else -1, message[1:]
        if channel not in self._port_bytes:
            raise ConnectionError(f"message on the unknown channel {channel}")
        skipped = min(self._port_bytes[channel], len(content))
        self._port_bytes[channel] -= skipped
        content = content[skipped:]
        if channel == _ERROR and content:
            raise ConnectionError(content.decode(errors="replace"))
        return content


class PodStream:
    """The data of a connection to a port of a pod. Not more than one message waits to be read: the kubelet is slowed down."""

    def __init__(self, socket: httpx_ws.AsyncWebSocketSession) -> None:
        self._socket = socket
        self._channels = Channels()
        self._received: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._is_over = False

    @property
    def is_ended(self) -> bool:
        """Whether the connection cannot be used any more."""
        return self._is_over

    async def read(self) -> bytes:
        """Return what has arrived; empty at the end."""
        return b"" if self._is_over and self._received.empty() else await self._received.get()

    async def write(self, data: bytes) -> None:
        """Send data. Raises ConnectionError if the connection is over."""
        try:
            await self._socket.send_bytes(bytes([_DATA]) + data)
        except Exception as error:  # of httpx_ws, wsproto, httpcore and anyio: each means the same
            raise ConnectionResetError("the connection to the pod is over") from error

    async def pump(self) -> None:
        """Receive until the connection is over."""
        try:
            while True:
                data = self._channels.data(await self._socket.receive_bytes())
                if data:
                    await self._received.put(data)
        except (httpx_ws.HTTPXWSException, ConnectionError):
            return  # whatever ends it, HTTP sees whether its message was complete
        finally:
            self._is_over = True

    def end(self) -> None:
        """Have the reader see the end, after what has arrived."""
        self._is_over = True
        if self._received.empty():
            self._received.put_nowait(b"")


@asynccontextmanager
async def connection(open_socket: OpenSocket) -> AsyncIterator[PodStream]:
    """Yield a connection by the socket that `open_socket` opens. Raises what that raises; a later failure ends the stream.

    The socket has a task of its own, because anyio's cancels the one that has opened it when it fails.
    """
    opened: asyncio.Future[PodStream] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        stream: PodStream | None = None
        try:
            async with open_socket() as socket:
                stream = PodStream(socket)
                opened.set_result(stream)
                await stream.pump()
        except Exception as error:  # noqa: BLE001  # of httpx, httpx_ws, wsproto, anyio and kr8s: each means the same
            if not opened.done():
                opened.set_exception(error)
        finally:
            if stream is not None:
                stream.end()

    task = asyncio.ensure_future(hold())
    try:
        either: list[asyncio.Future[Any]] = [task, opened]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        yield await opened
    finally:
        task.cancel()
        ended, _ = await asyncio.wait([task], timeout=_CLOSE_MAX)
        if not ended:
            task.cancel()
