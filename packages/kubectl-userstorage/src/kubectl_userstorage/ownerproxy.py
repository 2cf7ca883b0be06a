"""A proxy on this machine that sends each request to a file browser as its owner: it sets the header that names the user.

It listens on 127.0.0.1 alone and serves one person, who may forward ports to the pod anyway. The person's web browser is the one
client that others can use: a page of another site may send requests to the proxy. So it refuses a request for another host name
(DNS rebinding) and what another site has sent, unless it is a link to follow: the rule of the gate.
Nothing else listens: connections to the pod are streams inside of this process.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress

import h11

from kubectl_userstorage import errors
from kubectl_userstorage.cluster import Stream

_CHUNK = 65536
_LINGER_MAX = 30.0
"""Seconds for a client to read the last response, while it may still send the rest of an upload."""
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"expect", b"te", b"trailer", b"upgrade"})
_OWN_SITE = frozenset({b"same-origin", b"none"})
Headers = list[tuple[bytes, bytes]]
Connect = Callable[[], AbstractAsyncContextManager[Stream]]
"""Opens a connection to the pod. Raises OSError or CommandError if that fails."""


def refusal(request: h11.Request, port: int) -> str | None:
    """Return why a request is not served; None if it is."""
    headers = dict(request.headers)
    host = headers.get(b"host", b"").decode("ascii", "replace").lower()
    hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
    if host not in hosts:
        return f"the host must be 127.0.0.1:{port}"
    site = headers.get(b"sec-fetch-site", b"none")
    # A page without referrer sends the origin `null` to itself, too; only then the browser says that it is the same one.
    allowed = {f"http://{name}".encode() for name in hosts} | ({b"null"} if site == b"same-origin" else set())
    if any(key == b"origin" and value not in allowed for key, value in request.headers):
        return "another site sent this request"
    if site not in _OWN_SITE and not (request.method == b"GET" and headers.get(b"sec-fetch-mode") == b"navigate"):
        return "another site sent this request"
    return None


def as_owner(headers: Headers, name: bytes, owner: bytes) -> Headers:
    """Return the headers of a request with the owner as the only value of the header `name`.

    Spellings that some servers take for the same name, with `_` or `.` for `-`, are removed as well. `Upgrade` stays with its
    `Connection`, for WebSockets; everything else about the connection is up to this hop.
    """
    dropped = _spelling(name)
    upgrade = [(key, value) for key, value in headers if key == b"upgrade"]
    kept = [(key, value) for key, value in headers if _spelling(key) != dropped and key not in _HOP_BY_HOP]
    return [*kept, *([(b"connection", b"upgrade"), upgrade[0]] if upgrade else []), (name, owner)]


class OwnerProxy:
    """The proxy of one file browser. `header` is empty if the class authenticates no request."""

    def __init__(self, connect: Connect, header: str, owner: str) -> None:
        self._connect = connect
        self._header = header.lower().encode()
        self._owner = owner.encode()
        self._port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[int]:
        """Serve on 127.0.0.1 and yield the port; 0 chooses a free one. Raises OSError if the port is not free."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield self._port
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        socket = SocketStream(reader, writer)
        client = _Side(h11.Connection(h11.SERVER), socket)
        upstream = _Upstream(self._connect)
        try:
            while isinstance(request := await client.event(), h11.Request):
                if (reason := refusal(request, self._port)) is not None:
                    await client.refuse(403, reason)
                    break
                if not await self._forward(request, client, upstream):
                    break
            await socket.finish()
        except (OSError, h11.ProtocolError, errors.CommandError) as error:
            with suppress(OSError, h11.ProtocolError):
                cause = f"{error}\n" if isinstance(error, errors.CommandError) else ""
                await client.refuse(502, f"the file browser does not answer; is its pod still running?\n{cause}".rstrip())
                await socket.finish()
        finally:
            writer.close()
            await upstream.close()

    async def _forward(self, request: h11.Request, client: "_Side", upstream: "_Upstream") -> bool:
        """Forward one request and its response. Return whether the connection of the client can take another one."""
        server = await upstream.side()
        headers = list(request.headers)
        headers = as_owner(headers, self._header, self._owner) if self._header else headers
        await server.send(h11.Request(method=request.method, target=request.target, headers=headers))
        # The response may start before the request is complete: a refused upload.
        upload = asyncio.ensure_future(_upload(client, server, upstream))
        try:
            # Let it start. A response that has arrived is read without a pause, and a request without a body would seem incomplete.
            await asyncio.sleep(0)
            while True:
                response = await server.event()
                if isinstance(response, h11.Response):
                    break
                if isinstance(response, h11.InformationalResponse):
                    await client.send(response)
                    if response.status_code == 101:
                        await _tunnel(client, server)
                        return False
                else:
                    raise h11.RemoteProtocolError("closed without a response")
            headers = [(key, value) for key, value in response.headers if key not in _HOP_BY_HOP]
            # The rest of the upload would be read as the next request. Announced, or the client sends one that nothing answers.
            is_last = not upload.done() or upload.exception() is not None
            headers += [(b"connection", b"close")] if is_last else []
            await client.send(h11.Response(status_code=response.status_code, headers=headers, reason=response.reason))
            await _download(server, client)
        finally:
            upload.cancel()
            with suppress(asyncio.CancelledError, OSError, h11.ProtocolError):
                await upload
        if is_last or not server.next_request():
            await upstream.close()
        return client.next_request()


class SocketStream:
    """The Stream of a socket of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @property
    def is_ended(self) -> bool:
        """Whether the connection cannot be used any more."""
        return self._reader.at_eof()

    async def read(self) -> bytes:
        """Return what has arrived; empty at the end."""
        return await self._reader.read(_CHUNK)

    async def write(self, data: bytes) -> None:
        """Send data. Raises OSError if the connection is over."""
        self._writer.write(data)
        await self._writer.drain()

    async def finish(self) -> None:
        """Send the end, and wait for that of the peer: closing while it sends would take back what it has not read yet."""
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_MAX):
                while await self.read():
                    pass


class _Upstream:
    """The connection to the pod: opened for the first request, and again after the pod has closed it."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._opened = AsyncExitStack()
        self._side: _Side | None = None

    async def side(self) -> "_Side":
        """Return the connection. Raises what opening it raises."""
        if self._side is None or self._side.stream.is_ended:
            await self.close()
            self._side = _Side(h11.Connection(h11.CLIENT), await self._opened.enter_async_context(self._connect()))
        return self._side

    async def close(self) -> None:
        """Close the connection; the next request opens another one."""
        self._side = None
        await self._opened.aclose()


class _Side:
    """One connection, with h11's view of it."""

    def __init__(self, state: h11.Connection, stream: Stream) -> None:
        self._state = state
        self.stream = stream

    async def event(self) -> object:
        """Return h11's next event; the peer's end is `h11.ConnectionClosed`, a switch of protocols `h11.PAUSED`."""
        while (event := self._state.next_event()) is h11.NEED_DATA:
            if self._state.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self._state.receive_data(await self.stream.read())
        return event

    async def send(self, event: h11.Event) -> None:
        data = self._state.send(event)
        if data:
            await self.stream.write(data)

    async def refuse(self, status: int, reason: str) -> None:
        """Answer with a text, and close the connection afterwards."""
        body = f"{reason}\n".encode()
        headers = [("content-type", "text/plain"), ("content-length", str(len(body))), ("connection", "close")]
        await self.send(h11.Response(status_code=status, headers=headers))
        await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())

    def next_request(self) -> bool:
        """Prepare for another request. Return whether the connection can take one."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        return True

    def rest(self) -> bytes:
        """Return what was received after a switch of protocols and is not HTTP."""
        return bytes(self._state.trailing_data[0])


async def _upload(client: _Side, server: _Side, upstream: _Upstream) -> None:
    """Copy the body of a request. If its client goes away, end the connection to the pod, which waits for the rest of the body."""
    while True:
        try:
            event = await client.event()
        except (OSError, h11.ProtocolError):
            await upstream.close()
            raise
        if not isinstance(event, h11.Data | h11.EndOfMessage):  # a request for another protocol, which has no body
            return
        await server.send(event)
        if isinstance(event, h11.EndOfMessage):
            return


async def _download(server: _Side, client: _Side) -> None:
    """Copy the body of a response, up to and with its end."""
    while isinstance(event := await server.event(), h11.Data | h11.EndOfMessage):
        await client.send(event)
        if isinstance(event, h11.EndOfMessage):
            return


async def _tunnel(client: _Side, server: _Side) -> None:
    async def pump(source: _Side, sink: _Side) -> None:
        data = source.rest()
        while data or (data := await source.stream.read()):
            await sink.stream.write(data)
            data = b""

    tasks = [asyncio.ensure_future(pump(client, server)), asyncio.ensure_future(pump(server, client))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _spelling(name: bytes) -> bytes:
    return name.lower().replace(b"_", b"-").replace(b".", b"-")
