"""What a client gets that sends odd or hostile bytes to the port of the gate, with real sockets."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from aiohttp import web

from localcluster.addresses import free_port
from support.kubectl import PATIENCE
from userstorage_operator.runtime.connections import Closed, Limits
from userstorage_operator.runtime.http import HandlerServer

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
    "many headers": GET + b"X: a\r\n" * 64 + b"\r\n",
}


@dataclass(frozen=True)
class Request:
    """What the handler got."""

    method: str
    target: str
    headers: dict[str, list[str]]


class Server:
    """A running server whose responses are the target of the request, and the requests that its handler got."""

    def __init__(self, idle_seconds: float = PATIENCE) -> None:
        self.requests: list[Request] = []
        self.size = 0
        """Bytes of each response, besides the target."""
        self.closed: Counter[str] = Counter()
        """Number of connections that were closed because of a limit, by reason."""
        self.port = free_port()
        self.server = HandlerServer(self._handle, Limits(request_seconds=PATIENCE, idle_seconds=idle_seconds), self)

    def http_connection_closed(self, reason: str) -> None:
        self.closed[reason] += 1

    def _handle(self, request: web.BaseRequest, _: float) -> web.Response:
        headers = {name: request.headers.getall(name) for name in map(str.lower, request.headers)}
        self.requests.append(Request(request.method, request.raw_path, headers))
        if request.raw_path == "/fail":
            raise RuntimeError("a mistake")
        return web.Response(body=request.raw_path.encode() + bytes(self.size), headers={"X-Test": "yes"})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *parts: bytes) -> bytes:
        """Send the parts, each once the one before has been answered, and return everything that comes until the connection ends."""
        reader, writer = await self.connect()
        received = bytearray()

        async def read() -> None:
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(2**16):
                    received.extend(part)

        async with asyncio.timeout(PATIENCE):
            reading = asyncio.create_task(read())
            with contextlib.suppress(OSError):  # the server may close before it has read everything
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    for _ in range(20):  # turns of the event loop, which the server shares
                        await asyncio.sleep(0.002)
                writer.write_eof()
            await reading
        writer.close()
        return bytes(received)

    @property
    def targets(self) -> list[str]:
        return [request.target for request in self.requests]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.server.start(server.port)
    yield server
    await server.server.stop(0)


async def test_head_is_given_to_the_handler_as_it_was_sent(server: Server) -> None:
    names = b"X-Forwarded-Host: \t a \t\r\nx-forwarded-host: b\r\nX_Forwarded_Host: c\r\nX-Name: \xc3\xa4\xff\r\nX-Empty:\r\n"
    response = await server.exchange(b"PROPFIND /%2e/../%C3%a4;x?a=b#c HTTP/1.1\r\nHost: h\r\n" + names + b"\r\n")
    [request] = server.requests
    assert (request.method, request.target) == ("PROPFIND", "/%2e/../%C3%a4;x?a=b#c")
    assert request.headers == {
        "host": ["h"],
        "x-forwarded-host": ["a", "b"],
        "x_forwarded_host": ["c"],
        "x-name": ["ä\udcff"],
        "x-empty": [""],
    }
    head, body = response.split(b"\r\n\r\n", 1)
    assert head.splitlines()[0] == b"HTTP/1.1 200 OK"
    assert {b"X-Test: yes", b"Content-Length: %d" % len(body)} < set(head.splitlines())


async def test_head_may_come_in_pieces(server: Server) -> None:
    response = await server.exchange(b"GET /", b"a HTTP/1.1\r\nHo", b"st: h\r\nX-A: b", b"c\r\n\r", b"\n")
    assert response.endswith(b"\r\n\r\n/a")
    assert server.requests[0].headers == {"host": ["h"], "x-a": ["bc"]}


@pytest.mark.parametrize("what", MALFORMED)
async def test_malformed_request_gets_400_and_nothing_after_it_is_read(server: Server, what: str) -> None:
    response = await server.exchange(MALFORMED[what])
    assert response.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert (response.count(b" 200 OK\r\n"), server.targets) == (0, [])


async def test_64_headers_are_no_flood(server: Server) -> None:
    response = await server.exchange(GET + b"X: a\r\n" * 63 + b"\r\n")
    assert (response.count(b"HTTP/1.1 200"), server.targets) == (1, ["/a"])


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: %d\r\n\r\n" % len(NEXT) + NEXT,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(NEXT) + NEXT + b"\r\n0\r\n\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(NEXT) + NEXT,
    ],
    ids=["length", "chunks", "not really gzip"],
)
async def test_body_is_no_request(server: Server, body: bytes) -> None:
    response = await server.exchange(b"POST /a HTTP/1.1\r\nHost: h\r\n" + body, GET + b"\r\n")
    assert response.count(b"HTTP/1.1 200") == 2
    assert server.targets == ["/a", "/a"]


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"], ids=["body later", "body after 100 Continue"])
async def test_answer_before_the_body_is_the_last_of_the_connection(server: Server, expect: bytes) -> None:
    # A client that has its answer may leave the body out, and send another request in its place.
    head = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%s\r\n" % (len(NEXT) - 5, expect)
    response = await server.exchange(head, NEXT)
    assert (response.count(b"HTTP/1."), response.count(b"\r\nConnection: close\r\n")) == (1, 1)
    assert server.targets == ["/a"]


async def test_body_above_the_limit_gets_no_second_response(server: Server) -> None:
    response = await server.exchange(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n", bytes(1_000_000))
    assert (response.count(b"HTTP/1."), response.endswith(b"\r\n\r\n/a")) == (1, True)
    assert server.closed == {Closed.TOO_LARGE: 1}


async def test_requests_that_do_not_wait_are_answered_in_their_order(server: Server) -> None:
    response = await server.exchange(GET + b"\r\n" + NEXT * 2)
    assert (response.count(b"HTTP/1.1 200"), server.targets) == (3, ["/a", "/next", "/next"])


@pytest.mark.parametrize(
    "headers",
    [b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"],
    ids=["websocket", "h2c"],
)
async def test_upgrade_is_answered_like_any_request(server: Server, headers: bytes) -> None:
    response = await server.exchange(GET + headers + b"\r\n")
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nUpgrade:" not in response


async def test_connect_is_answered_like_any_request(server: Server) -> None:
    response = await server.exchange(b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (response.count(b"HTTP/1.1 200"), server.targets) == (1, ["h:443"])


@pytest.mark.parametrize("version", [b" HTTP/1.0", b" HTTP/1.1\r\nConnection: close", b""], ids=["1.0", "close", "0.9"])
async def test_connection_ends_if_the_client_does_not_keep_it(server: Server, version: bytes) -> None:
    response = await server.exchange(b"GET /a" + version + b"\r\nHost: h\r\n\r\n", NEXT)
    assert (response.count(b" 200 OK\r\n"), server.targets) == (1, ["/a"])


async def test_idle_connection_ends_without_a_fault() -> None:
    server = Server(idle_seconds=0.1)
    await server.server.start(server.port)
    reader, writer = await server.connect()
    writer.write(NEXT)
    async with asyncio.timeout(PATIENCE):
        assert (await reader.read()).endswith(b"/next")
    assert not server.closed
    writer.close()
    await server.server.stop(0)


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
    sending.cancel()
    writer.close()


async def _send_forever(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(NEXT)
            await writer.drain()
            await asyncio.sleep(0.001)


async def test_mistake_of_the_handler_is_an_error_of_the_server(server: Server) -> None:
    response = await server.exchange(b"GET /fail HTTP/1.1\r\nHost: h\r\n\r\n", NEXT)
    assert (response.count(b"HTTP/1.1"), response.startswith(b"HTTP/1.1 500 ")) == (1, True)
    assert b"a mistake" not in response


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
