"""Limits on the connections of an HTTP server. Every pod may connect, so a connection costs little, and one that waits makes
room for a new one: a probe of the kubelet is answered while other clients hold as many connections as they can.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast


class Closed(StrEnum):
    """Why the server closed a connection."""

    TIMEOUT = "timeout"
    """The request was not complete in time, or the client did not read the response."""
    TOO_LARGE = "too_large"
    """The request is larger than `Limits.request_bytes`."""
    DISPLACED = "displaced"
    """It was waiting, and a new connection needed its place."""
    REFUSED = "refused"
    """All places have a request in progress."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them together, may hold."""

    connections: int = 512
    """Connections of all clients."""
    per_address: int = 128
    """Connections of one address."""
    request_bytes: int = 16 * 1024
    """Bytes of a request: its line, its headers and its body."""
    request_seconds: float = 10.0
    """Time from the first byte of a request, or from the connection, until it is complete."""
    idle_seconds: float = 60.0
    """Time from a response until the next request."""
    close_seconds: float = 10.0
    """Time for which a client may take to read the last response after `idle_seconds`."""


class ConnectionLimiter:
    """The open connections, by address of the client. If there is no place for a new one, the connection that has been waiting
    for the longest is closed, of the address that has the most; one with a request in progress never is.
    """

    def __init__(self, limits: Limits, observe: Callable[[str], None]) -> None:
        """`observe` is called with the reason for each connection that the server closes because of a limit."""
        self.limits = limits
        self.observe = observe
        self._by_address: dict[str, dict[Connection, None]] = {}
        """Ordered: the one that has been waiting for the longest comes first."""
        self._by_protocol: dict[asyncio.BaseProtocol, Connection] = {}
        self._open = 0

    def admit(self, connection: "Connection") -> bool:
        """Add a new connection if there is a place, or another one can be closed for it. Return whether it was added."""
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
        """Forget a connection. A second call does nothing."""
        of_address = self._by_address.get(connection.address, {})
        if connection not in of_address:
            return
        del of_address[connection], self._by_protocol[connection.protocol]
        self._open -= 1
        if not of_address:
            del self._by_address[connection.address]

    def waits_again(self, connection: "Connection") -> None:
        """Note that a connection has just answered: it is the last of its address to be closed."""
        of_address = self._by_address.get(connection.address, {})
        if connection in of_address:
            of_address[connection] = of_address.pop(connection)

    def of_protocol(self, protocol: asyncio.BaseProtocol) -> "Connection | None":
        """Return the open connection of the server's protocol."""
        return self._by_protocol.get(protocol)


class Connection(asyncio.Protocol):
    """Passes a connection on to the server's protocol, as far as the limits allow."""

    def __init__(self, protocol: asyncio.Protocol, limiter: ConnectionLimiter) -> None:
        """`protocol` is the server's, which parses requests and calls their handlers."""
        self.protocol = protocol
        self.address = ""
        self._limiter = limiter
        self._limits = limiter.limits
        self._transport: asyncio.Transport | None = None
        self._admitted = False
        self._received = 0
        """Bytes since the last request that was complete."""
        self._in_progress = 0
        """Requests that are complete but not answered."""
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether no request is in progress: there is none, or it is not complete."""
        return self._in_progress == 0

    def request_started(self) -> None:
        """Note that a request is complete, and that its handler starts."""
        self._received = 0
        self._in_progress += 1
        self._cancel_deadline()

    def request_ended(self) -> None:
        """Note that a handler has returned; the response is sent next."""
        self._in_progress -= 1
        if self.waiting and self._transport is not None:
            self._limiter.waits_again(self)
            self._close_in(self._limits.idle_seconds + self._limits.close_seconds)

    def close(self, reason: Closed) -> None:
        """Close the connection at once, without sending what is left to send."""
        self._limiter.observe(reason)
        self._limiter.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Satisfy asyncio.Protocol."""
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
        """Satisfy asyncio.Protocol."""
        if self._received == 0 and self.waiting:
            self._close_in(self._limits.request_seconds)
        self._received += len(data)
        if self._received <= self._limits.request_bytes:
            self.protocol.data_received(data)
        else:
            self._refuse("431 Request Header Fields Too Large", Closed.TOO_LARGE)

    def eof_received(self) -> bool | None:
        """Satisfy asyncio.Protocol."""
        return self.protocol.eof_received() if self._admitted else None

    def pause_writing(self) -> None:
        """Satisfy asyncio.Protocol."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """Satisfy asyncio.Protocol."""
        self.protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Satisfy asyncio.Protocol."""
        self._cancel_deadline()
        self._transport = None
        self._limiter.remove(self)
        if self._admitted:
            self.protocol.connection_lost(exc)

    def _refuse(self, status: str, reason: Closed) -> None:
        """Send a response without a body, and close the connection."""
        if self._transport is None or self._transport.is_closing():
            return
        self._limiter.observe(reason)
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
    """Close the first of the connections that is waiting. Return whether there was one."""
    waiting = next((connection for connection in connections if connection.waiting), None)
    if waiting is None:
        return False
    waiting.close(Closed.DISPLACED)
    return True
