"""What a client gets that sends odd or hostile bytes to the port of the gate, with real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest

from localcluster.addresses import free_port
from support.kubectl import PATIENCE
from userstorage_operator.runtime.connections import Limits
from userstorage_operator.runtime.head_server import HeadServer, Request

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown method": b"ALICE /a HTTP/1.1\r\nHost: h\r\n\r\n",
    "bytes outside of ASCII in the target": "GET /ä HTTP/1.1\r\nHost: h\r\n\r\n".encode(),
    "bare line feeds": b"GET /a HTTP/1.1\nHost: h\n\n",
    "space in the target": b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "space before the colon": GET + b"X-Forwarded-Host : a\r\n\r\n",
    "space in a name": GET + b"X Forwarded-Host: a\r\n\r\n",
    "folded line": GET + b"X-Forwarded-Host: a\r\n b\r\n\r\n",
    "line without a colon": GET + b"alice\r\n\r\n",
    "NUL in a value": GET + b"X-Forwarded-Host: a\0b\r\n\r\n",
    "CR in a value": GET + b"X-Forwarded-Host: a\rAuthorization: b\r\n\r\n",
    "two lengths": GET + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + NEXT,
    "length that is no number": GET + b"Content-Length: +5\r\n\r\n" + NEXT,
    "length and chunks": GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + NEXT,
    "unknown encoding": GET + b"Transfer-Encoding: chunked, x\r\n\r\n" + NEXT,
}


@dataclass(frozen=True)
class Echo:
    """A response whose body is the target of the request."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"X-Test": "yes"})


class Server:
    """A running server, and the requests that its handler got."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.size = 0
        """Bytes of each response, besides the target."""
        self.port = free_port()
        self.server = HeadServer(self._handle, Limits(request_seconds=PATIENCE, idle_seconds=PATIENCE), self)

    def http_connection_closed(self, reason: str) -> None:
        pass

    def _handle(self, request: Request) -> Echo:
        self.requests.append(request)
        if request.target == "/fail":
            raise RuntimeError("a mistake")
        return Echo(request.target.encode() + bytes(self.size))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *parts: bytes) -> bytes:
        """Send the parts, each once the one before has arrived, and return everything that comes until the connection ends."""
        reader, writer = await self.connect()
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(OSError):  # the server may close before it has read everything
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.05)
                writer.write_eof()
            received = b""
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(2**16):
                    received += part
        writer.close()
        return received

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.server.start(server.port)
    yield server
    await server.server.stop(0)


async def test_head_is_given_to_the_handler_byte_for_byte(server: Server) -> None:
    names = (
        b"X-Forwarded-Host: \t a \t\r\nx-forwarded-host: b\r\nX_Forwarded_Host: c\r\nX-Name: \xc3\xa4\xff\r\nX-Empty:\r\n\r\n"
    )
    response = await server.exchange(b"PROPFIND /%2e/../%C3%a4;x?a=b#c HTTP/1.1\r\nHost: h\r\n" + names)
    [request] = server.requests
    assert (request.method, request.target) == ("PROPFIND", "/%2e/../%C3%a4;x?a=b#c")
    assert request.headers == {
        "host": ["h"],
        "x-forwarded-host": ["a", "b"],
        "x_forwarded_host": ["c"],
        "x-name": ["\xc3\xa4\xff"],
        "x-empty": [""],
    }
    head, body = response.split(b"\r\n\r\n", 1)
    assert head.splitlines()[0] == b"HTTP/1.1 200 OK"
    assert {b"X-Test: yes", b"Content-Length: %d" % len(body)} < set(head.splitlines())
    assert b"\r\nDate: " in head
    assert b"Server:" not in head


async def test_head_may_come_in_pieces(server: Server) -> None:
    response = await server.exchange(b"GET /", b"a HTTP/1.1\r\nHo", b"st: h\r\nX-A: b", b"c\r\n\r", b"\n")
    assert response.endswith(b"\r\n\r\n/a")
    assert server.requests[0].headers == {"host": ["h"], "x-a": ["bc"]}


@pytest.mark.parametrize("what", MALFORMED)
async def test_malformed_request_gets_400_and_nothing_after_it_is_read(server: Server, what: str) -> None:
    response = await server.exchange(MALFORMED[what])
    assert response == b"" or response.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert server.targets == []


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n" % len(NEXT) + NEXT,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(NEXT) + NEXT + b"\r\n0\r\n\r\n",
    ],
    ids=["length", "chunks"],
)
async def test_body_is_no_request(server: Server, body: bytes) -> None:
    response = await server.exchange(b"POST /a HTTP/1.1\r\nHost: h\r\n" + body, GET + b"\r\n")
    assert response.count(b"HTTP/1.1 200") == 2
    assert server.targets == ["/a", "/a"]


async def test_request_that_does_not_wait_for_the_answer_before_ends_the_connection(server: Server) -> None:
    response = await server.exchange(GET + b"\r\n" + NEXT * 500, NEXT)
    assert (response.count(b"HTTP/1.1"), server.targets) == (1, ["/a"])


@pytest.mark.parametrize(
    "headers",
    [b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"],
)
async def test_upgrade_is_answered_like_any_request_and_ends_the_connection(server: Server, headers: bytes) -> None:
    response = await server.exchange(GET + headers + b"\r\n", NEXT)
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (b"\r\nConnection: close\r\n" in response, server.targets) == (True, ["/a"])


async def test_connect_is_answered_like_any_request_and_ends_the_connection(server: Server) -> None:
    response = await server.exchange(b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", NEXT)
    assert (b"\r\nConnection: close\r\n" in response, server.targets) == (True, ["h:443"])


@pytest.mark.parametrize(
    "version", [b"", b" HTTP/1.0", b" HTTP/1.0\r\nConnection: keep-alive", b" HTTP/1.1\r\nConnection: close"]
)
async def test_connection_ends_if_the_client_does_not_keep_it(server: Server, version: bytes) -> None:
    response = await server.exchange(b"GET /a" + version + b"\r\n\r\n", NEXT)
    assert (b"\r\nConnection: close\r\n" in response, server.targets) == (True, ["/a"])


async def test_response_to_head_has_no_body(server: Server) -> None:
    response = await server.exchange(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", GET + b"\r\n")
    assert response.count(b"Content-Length: 2\r\n") == 2
    assert response.count(b"/a") == 1


async def test_client_that_reads_no_response_is_not_read_either(server: Server) -> None:
    server.size = 100_000
    _, writer = await server.connect()
    sending = asyncio.create_task(_send_forever(writer))
    before = -1
    while before != len(server.requests):
        before = len(server.requests)
        await asyncio.sleep(0.5)
    assert 0 < len(server.requests) < 1000
    assert not sending.done() or sending.exception() is None
    sending.cancel()
    writer.close()


async def _send_forever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(NEXT)
        await writer.drain()
        await asyncio.sleep(0.001)


async def test_mistake_of_the_handler_is_never_an_answer(server: Server) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    assert await server.exchange(b"GET /fail HTTP/1.1\r\nHost: h\r\n\r\n") == b""
    assert await server.exchange(GET + b"\r\n") != b""
    assert len(reported) == 1


async def test_stop_lets_each_connection_have_its_next_answer(server: Server) -> None:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await server.connect()
        writer.write(GET + b"\r\n")
        assert b"\r\nConnection: close" not in await reader.readuntil(b"\r\n\r\n/a")
        stopping = asyncio.create_task(server.server.stop(PATIENCE))
        await asyncio.sleep(0.1)
        with pytest.raises(ConnectionRefusedError):
            await server.connect()
        writer.write(NEXT)
        last = await reader.read()
        await stopping
    assert (b"\r\nConnection: close\r\n" in last, last.endswith(b"/next")) == (True, True)
    writer.close()


async def test_stop_ends_idle_connections(server: Server) -> None:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await server.connect()
        writer.write(GET + b"\r\n")
        assert await reader.readuntil(b"\r\n\r\n/a")
        await server.server.stop(0.1)
        assert await reader.read() == b""
    writer.close()
