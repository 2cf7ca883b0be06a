"""Limits on the connections of the operator's HTTP server, to which every pod may connect.

If all places are taken, a new connection displaces one that has no request in progress. So a probe of the kubelet is answered
even while other clients hold as many connections as they can.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast


class Closed(StrEnum):
    """Why the HTTP server closed a connection."""

    TIMEOUT = "timeout"
    """No complete request arrived in time, or the client did not read the response in time."""
    TOO_LARGE = "too_large"
    """The request is larger than `Limits.request_bytes`."""
    DISPLACED = "displaced"
    """The connection had no request in progress, and a new connection needed its place."""
    REFUSED = "refused"
    """The connection was new, and no other could be closed for it: each had a request in progress."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the connections and requests of one client address, and on the connections of all clients together."""

    connections: int = 512
    """Maximum number of open connections of all clients."""
    per_address: int = 128
    """Maximum number of open connections of one client IP address."""
    request_bytes: int = 16 * 1024
    """Maximum size of a request in bytes: request line, headers and body together."""
    request_seconds: float = 10.0
    """Seconds until a request is complete, counted from its first byte. A new connection has as many seconds until the first
    byte of its first request.
    """
    idle_seconds: float = 60.0
    """Seconds from a response until the next request on the same connection; then the connection is closed."""
    close_seconds: float = 10.0
    """Seconds after `idle_seconds` in which the client may still read the last response; then the connection is aborted."""


class ConnectionLimiter:
    """The open connections, grouped by the client's IP address.

    A new connection without a place displaces another one: of its own address if that has too many, else of the address that
    has the most. The least recently used connection is closed first. A connection with a request in progress is never closed
    for a new one.
    """

    def __init__(self, limits: Limits, observe: Callable[[str], None]) -> None:
        """`observe` is called with the `Closed` value of each connection that the server closes because of a limit."""
        self.limits = limits
        self.observe = observe
        self._by_address: dict[str, dict[Connection, None]] = {}
        """Client IP address -> its connections as an ordered set, the least recently used first."""
        self._by_protocol: dict[asyncio.BaseProtocol, Connection] = {}
        self._open = 0

    def admit(self, connection: "Connection") -> bool:
        """Add a new connection; if there is no place, close another one for it. Return False, and add nothing, if none can be
        closed.
        """
        of_address = self._by_address.get(connection.address, {})
        if len(of_address) >= self.limits.per_address:
            if not _displace(of_address):
                return False
        elif self._open >= self.limits.connections and not any(
            map(_displace, sorted(self._by_address.values(), key=len, reverse=True))
        ):
            return False
        self._by_address.setdefault(connection.address, {})[connection] = None
        self._by_protocol[connection.protocol] = connection
        self._open += 1
        return True

    def remove(self, connection: "Connection") -> None:
        """Remove a closed connection. A connection that was already removed is ignored."""
        of_address = self._by_address.get(connection.address, {})
        if connection not in of_address:
            return
        del of_address[connection], self._by_protocol[connection.protocol]
        self._open -= 1
        if not of_address:
            del self._by_address[connection.address]

    def waits_again(self, connection: "Connection") -> None:
        """Record that a connection has just sent a response. Of all connections of its address, it is now the last to be
        closed.
        """
        of_address = self._by_address.get(connection.address, {})
        if connection in of_address:
            of_address[connection] = of_address.pop(connection)

    def of_protocol(self, protocol: asyncio.BaseProtocol) -> "Connection | None":
        """Return the open connection that wraps the server's `protocol`; None if that connection is closed."""
        return self._by_protocol.get(protocol)


class Connection(asyncio.Protocol):
    """Wraps the server's asyncio protocol for one client connection, and closes the connection when a limit is exceeded."""

    def __init__(self, protocol: asyncio.Protocol, limiter: ConnectionLimiter) -> None:
        """`protocol` is the HTTP server's own protocol, which parses requests and calls their handlers."""
        self.protocol = protocol
        self.address = ""
        self._limiter = limiter
        self._limits = limiter.limits
        self._transport: asyncio.Transport | None = None
        self._admitted = False
        self.received_at = 0.0
        """Value of `time.perf_counter` when data last arrived."""
        self._received = 0
        """Bytes received since the last complete request."""
        self._in_progress = 0
        """Number of complete requests whose handler has not returned yet."""
        self._answered_last = False
        """Whether what the client still sends gets no response."""
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether no handler is running: the connection is idle, or its next request is not complete."""
        return self._in_progress == 0

    def request_started(self) -> None:
        """Record that a request is complete and its handler starts. Until the handler returns, no timeout closes the
        connection.
        """
        self._received = 0
        self._in_progress += 1
        self._cancel_deadline()

    def request_ended(self) -> None:
        """Record that a request's handler has returned. If no other handler is running, the idle timeout starts."""
        self._in_progress -= 1
        if self.waiting and self._transport is not None:
            self._limiter.waits_again(self)
            self._close_in(self._limits.idle_seconds + self._limits.close_seconds)

    def answered_last(self) -> None:
        """Record that the response in progress is the last one. What the client still sends, such as a body, gets no other."""
        self._answered_last = True

    def close(self, reason: Closed) -> None:
        """Abort the connection without sending the data that is still buffered, and report `reason` to the limiter's `observe`."""
        self._limiter.observe(reason)
        self._limiter.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass an admitted connection on to the server's protocol; refuse any other with status 503."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""
        self._close_in(self._limits.request_seconds)
        self._admitted = self._limiter.admit(self)
        if self._admitted:
            self.protocol.connection_made(transport)
        else:
            self._refuse("503 Service Unavailable", Closed.REFUSED)

    def data_received(self, data: bytes) -> None:
        """Pass received bytes on to the server's protocol; refuse a request that is too large with status 431."""
        if self._received == 0 and self.waiting:
            self._close_in(self._limits.request_seconds)
        self.received_at = time.perf_counter()
        self._received += len(data)
        if self._received <= self._limits.request_bytes:
            self.protocol.data_received(data)
        else:
            self._refuse("431 Request Header Fields Too Large", Closed.TOO_LARGE)

    def eof_received(self) -> bool | None:
        """Return what the server's protocol returns; None for a refused connection, which asyncio then closes."""
        return self.protocol.eof_received() if self._admitted else None

    def pause_writing(self) -> None:
        """Pass the call on to the server's protocol."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass the call on to the server's protocol."""
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection from the limiter, and pass the call on to the server's protocol if the connection was admitted."""
        self._cancel_deadline()
        self._transport = None
        self._limiter.remove(self)
        if self._admitted:
            self.protocol.connection_lost(exc)

    def _refuse(self, status: str, reason: Closed) -> None:
        """Send a response with `status` and an empty body, unless the client already got its last one; then close the
        connection. Ignored if the connection is already closing.
        """
        if self._transport is None or self._transport.is_closing():
            return
        self._limiter.observe(reason)
        if not self._answered_last:
            self._transport.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        self._transport.close()

    def _close_in(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.close, Closed.TIMEOUT)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _displace(connections: dict[Connection, None]) -> bool:
    """Close the first of the connections that has no request in progress. Return False if there is none."""
    waiting = next((connection for connection in connections if connection.waiting), None)
    if waiting is None:
        return False
    waiting.close(Closed.DISPLACED)
    return True
