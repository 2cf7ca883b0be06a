"""HTTPS to a gateway, byte by byte: hosts, paths and headers that no library would send."""

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

Headers = Iterable[tuple[str, str]]
PATIENCE = 90.0
"""Seconds to wait for the next bytes of an answer."""


@dataclass(frozen=True)
class Answer:
    """What a gateway answered. The code is 0 if it closed the connection without an answer."""

    code: int
    headers: Message
    body: bytes

    def __contains__(self, text: bytes) -> bool:
        """Whether the text is anywhere in the answer."""
        return text in self.body or any(text in value.encode(errors="replace") for value in self.headers.values())


@contextlib.contextmanager
def connected(port: int, name: str, *protocols: str) -> Iterator[ssl.SSLSocket]:
    """Connect to the gateway on that port of this machine, and ask for the certificate of `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default context reads 144 authorities: 60 ms for each request
    context.set_alpn_protocols(protocols or ["http/1.1"])
    context.check_hostname = False  # the name is what tests forge
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        yield secured


def encoded(method: str, host: str | None, path: str, headers: Headers = (), body: bytes | None = None) -> bytes:
    """Return the bytes of a request. Without a host there is no line with one."""
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"Host: {host}"] if host is not None else []
    lines += [f"{name}: {value}" for name, value in headers]
    lines += [f"Content-Length: {len(body)}"] if body is not None else []
    lines += ["Connection: close"] if not any(line.startswith("Connection:") for line in lines) else []
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def exchange(port: int, request: bytes, name: str) -> Answer:
    """Send these bytes, and return the answer."""
    with contextlib.suppress(ssl.SSLError, ConnectionError, http.client.HTTPException), connected(port, name) as connection:
        connection.sendall(request)
        method = request.split(b" ", 1)[0].decode()
        with http.client.HTTPResponse(connection, method=method) as response:  # if it is left open, so is the connection
            response.begin()
            return Answer(response.status, response.headers, b"" if response.status == 101 else response.read())
    return Answer(0, Message(), b"")


def send(port: int, method: str, host: str, path: str = "/", headers: Headers = (), body: bytes | None = None) -> Answer:
    """Send a request for that host, and return the answer."""
    return exchange(port, encoded(method, host, path, headers, body), host)


def exchange_http2(port: int, headers: Headers, name: str) -> Answer:
    """Send a request of HTTP/2 without a body, with exactly these headers, pseudo-headers first, and return the answer."""
    settings = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    client = H2Connection(settings)
    code, answered, body = 0, Message(), b""
    with contextlib.suppress(ssl.SSLError, ConnectionError, ProtocolError), connected(port, name, "h2") as connection:
        if connection.selected_alpn_protocol() != "h2":
            return Answer(0, answered, b"no HTTP/2")
        client.initiate_connection()
        client.send_headers(1, list(headers), end_stream=True)
        connection.sendall(client.data_to_send())
        while data := connection.recv(65536):
            for event in client.receive_data(data):
                if isinstance(event, ResponseReceived):
                    for key, value in event.headers:
                        answered[key.decode()] = value.decode()
                    code = int(answered[":status"])
                elif isinstance(event, DataReceived):
                    body += event.data
                elif isinstance(event, StreamEnded | StreamReset | ConnectionTerminated):
                    return Answer(code, answered, body)
            connection.sendall(client.data_to_send())
    return Answer(code, answered, body)
