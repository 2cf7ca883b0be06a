"""Serves a port with one function that answers each request at once, from its head: for many small answers from memory.

aiohttp starts a task for each request, and prepares for bodies, cookies and streams: twice the CPU time
(docs/decisions/0020-the-gate.md).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

from userstorage_operator.runtime.connections import Connection, ConnectionLimiter, Limits
from userstorage_operator.runtime.http import ConnectionObserver, LimitedPort

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. Its strings have one character for each byte."""

    method: str
    target: str
    """The path with the query, as the client sent it; whatever else the client sent in its place."""
    headers: Mapping[str, Sequence[str]]
    """Name in lower case -> the values of all headers of that name, in their order, without spaces around them."""
    received: float
    """Value of `time.perf_counter` when the last byte of the head arrived."""


class Response(Protocol):
    """What a handler returns. Names and values of headers are ASCII, without line breaks."""

    @property
    def status(self) -> int:
        """The HTTP status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, without Date, Connection and Content-Length."""

    @property
    def body(self) -> bytes:
        """The body; not sent in the response to HEAD."""


Handler = Callable[[Request], Response]


class HeadServer:
    """Serves a port with one function for every request, whatever its method and path.

    The body of a request is read and dropped. A connection is closed after a request that is malformed, asks for another
    protocol, or does not wait for the answer to the one before: proxies never do the last, and a flood of it would fill the
    memory.
    """

    def __init__(self, handler: Handler, limits: Limits, observer: ConnectionObserver) -> None:
        """Serve with `handler`, which does not block. After an exception of it, the connection is closed without a response."""
        self.handler = handler
        self.stopping = False
        """Whether each response is the last of its connection."""
        self._limits = limits
        self._open: set[_Protocol] = set()
        self._none_open = asyncio.Event()
        self._port = LimitedPort(self._connection, observer)

    async def start(self, port: int) -> None:
        """Listen on TCP port `port` of all addresses. Raises OSError if the port is in use."""
        await self._port.start(port, self._limits)

    async def stop(self, within: float) -> None:
        """Stop listening on the port, and close each connection after its next response; after so many seconds all the others.

        A connection that is closed while a client sends the next request fails that request: proxies do not repeat a POST.
        """
        self._port.stop()
        self.stopping = True
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._none_open.wait()
        for protocol in list(self._open):
            protocol.close()

    def opened(self, protocol: "_Protocol") -> None:
        """Record a new connection."""
        self._open.add(protocol)
        self._none_open.clear()

    def closed(self, protocol: "_Protocol") -> None:
        """Record the end of a connection."""
        self._open.discard(protocol)
        if not self._open:
            self._none_open.set()

    def _connection(self, limiter: ConnectionLimiter) -> Connection:
        protocol = _Protocol(self)
        protocol.connection = connection = Connection(protocol, limiter)
        return connection


class _Protocol(asyncio.Protocol):
    """Parses the requests of one connection. Its methods `on_…` are the callbacks of the parser."""

    connection: Connection
    _transport: asyncio.Transport

    def __init__(self, server: HeadServer) -> None:
        self._server = server
        self._parser = HttpRequestParser(self)
        self._received = 0.0
        self._target = b""
        self._headers: dict[str, list[str]] = {}
        self._answered = False
        """Whether the data that is being parsed had the end of a head."""

    def close(self) -> None:
        """Close the connection, after what was written is sent."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # as asyncio calls it
        self._server.closed(self)

    def pause_writing(self) -> None:
        """Read nothing more from a client that does not read its responses."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._received, self._answered = time.perf_counter(), False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # answered, and closed: what follows is no HTTP
        except HttpParserCallbackError:  # of the handler
            self._transport.abort()
            raise
        except HttpParserError:
            if not self._answered:
                self._transport.write(_BAD_REQUEST)
            self._transport.close()

    def on_message_begin(self) -> None:
        self._target, self._headers = b"", {}

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip(" \t"))

    def on_headers_complete(self) -> None:
        """Answer, or close the connection if the request did not wait for the answer to the one before."""
        if self._answered:
            self._transport.close()
        if self._transport.is_closing():
            return
        self._answered = True
        parser = self._parser
        method = parser.get_method().decode("ascii")
        is_last = parser.should_upgrade() or not parser.should_keep_alive() or parser.get_http_version() != "1.1"
        is_last |= self._server.stopping
        self.connection.request_started()
        try:
            response = self._server.handler(Request(method, self._target.decode("latin-1"), self._headers, self._received))
        finally:
            self.connection.request_ended()
        lines = [f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}", f"Date: {_date(int(time.time()))}"]
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        lines += [f"Content-Length: {len(response.body)}", *(["Connection: close"] if is_last else []), "\r\n"]
        self._transport.write("\r\n".join(lines).encode("ascii") + (response.body if method != "HEAD" else b""))
        if is_last:
            self._transport.close()


@lru_cache(maxsize=1)
def _date(seconds: int) -> str:
    """Return the header Date of a moment, in seconds since the epoch."""
    return formatdate(seconds, usegmt=True)
