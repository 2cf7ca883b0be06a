"""What clients may hold at the port, with real sockets: strangers hold what they can, and probes and metrics are answered."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from localcluster.addresses import free_port
from support.kubectl import PATIENCE
from userstorage_operator.runtime.connections import Closed, Limits
from userstorage_operator.runtime.http import HttpServer

GET = b"GET /health HTTP/1.1\r\nHost: operator\r\n"
LARGE = GET + b"".join(b"X-%d: " % number + b"a" * 8000 + b"\r\n" for number in range(60))
"""480 KB of headers, without an end."""
SLOW = Limits(request_seconds=PATIENCE, idle_seconds=PATIENCE)
"""No time limit that a test could reach."""


class Observer:
    def __init__(self) -> None:
        self.closed: Counter[str] = Counter()

    def http_answered(self, handler: str, code: int, seconds: float) -> None:
        pass

    def http_connection_closed(self, reason: str) -> None:
        self.closed[reason] += 1


class Client:
    """One connection to the server, from an address of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the server may close before it has read everything
            self._writer.write(data)
            await self._writer.drain()

    async def request(self, path: str = "/health") -> str:
        """Send a request and return the status line of its response."""
        await self.send(f"GET {path} HTTP/1.1\r\nHost: operator\r\n\r\n".encode())
        return await self.status()

    async def status(self) -> str:
        """Return the status line of the next response, read to its end; empty if the server closed the connection."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = await self._reader.readuntil(b"\r\n\r\n")
                length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
                await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return ""
        return head.split(b"\r\n")[0].decode()

    async def closed(self) -> None:
        """Wait until the server has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(2**16):
                    pass

    def is_open(self) -> bool:
        return not self._reader.at_eof() and self._reader.exception() is None

    def close(self) -> None:
        self._writer.close()


class Port:
    """A running server and its clients."""

    def __init__(self, server: HttpServer, port: int, observer: Observer) -> None:
        self.server = server
        self.observer = observer
        self.release = asyncio.Event()
        self._port = port
        self._clients: list[Client] = []

    async def connect(self, address: str = "127.0.0.1", data: bytes = b"") -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0)))
        self._clients.append(client)
        await client.send(data)
        return client

    async def until_closed(self, reason: Closed, count: int) -> None:
        """Wait until so many connections were closed for that reason."""
        deadline = time.monotonic() + PATIENCE
        while self.observer.closed[reason] < count:
            assert time.monotonic() < deadline, self.observer.closed
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self.release.set()
        for client in self._clients:
            client.close()
        await self.server.stop()


Start = Callable[[Limits], contextlib.AbstractAsyncContextManager[Port]]


@pytest.fixture
def start() -> Start:
    @contextlib.asynccontextmanager
    async def start(limits: Limits) -> AsyncIterator[Port]:
        observer, number = Observer(), free_port()
        server = HttpServer({}, {}, {}, dict, lambda: b"metrics", "text/plain", observer)
        port = Port(server, number, observer)

        async def slow(_: web.Request) -> web.Response:
            await port.release.wait()
            return web.Response()

        app = web.Application()
        app.router.add_get("/slow", slow)
        server.mount("/v1", app)
        await server.start(number, limits)
        try:
            yield port
        finally:
            await port.stop()

    return start


async def test_half_open_requests_with_large_headers_are_closed(start: Start) -> None:
    async with start(SLOW) as port:
        clients = [await port.connect(data=LARGE) for _ in range(300)]
        for client in clients:
            await client.closed()
        assert port.observer.closed == {Closed.TOO_LARGE: 300}


async def test_half_open_requests_are_closed_after_the_request_time_limit(start: Start) -> None:
    async with start(Limits(request_seconds=0.3)) as port:
        clients = [await port.connect(data=GET) for _ in range(60)]
        clients += [await port.connect() for _ in range(40)]
        for client in clients:
            await client.closed()
        assert port.observer.closed == {Closed.TIMEOUT: 100}


async def test_slow_drip_of_bytes_does_not_extend_the_request_time_limit(start: Start) -> None:
    async with start(Limits(request_seconds=0.5)) as port:
        client = await port.connect(data=GET)
        deadline = time.monotonic() + PATIENCE
        while not port.observer.closed:
            assert time.monotonic() < deadline
            await client.send(b"X: 1\r\n")
            await asyncio.sleep(0.05)
        await client.closed()
        assert port.observer.closed == {Closed.TIMEOUT: 1}


async def test_second_request_of_a_connection_has_the_same_limits(start: Start) -> None:
    async with start(Limits(request_seconds=0.3)) as port:
        late, large = await port.connect(), await port.connect()
        for client in (late, large):
            assert await client.request() == "HTTP/1.1 200 OK"
        await large.send(LARGE)
        await late.send(GET)
        await late.closed()
        await large.closed()
        assert port.observer.closed == {Closed.TIMEOUT: 1, Closed.TOO_LARGE: 1}


async def test_idle_connection_is_closed(start: Start) -> None:
    async with start(Limits(idle_seconds=0.1, close_seconds=0.1)) as port:
        client = await port.connect()
        assert await client.request() == "HTTP/1.1 200 OK"
        await client.closed()
        assert port.observer.closed == {Closed.TIMEOUT: 1}


async def test_large_request_is_answered_431(start: Start) -> None:
    async with start(SLOW) as port:
        client = await port.connect(data=GET + b"".join(b"X-%d: " % n + b"a" * 5000 + b"\r\n" for n in range(4)) + b"\r\n")
        assert await client.status() == "HTTP/1.1 431 Request Header Fields Too Large"


async def test_many_headers_are_answered_400_without_a_log_line(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with start(SLOW) as port:
        client = await port.connect(data=GET + b"".join(b"X-%d: 1\r\n" % number for number in range(100)) + b"\r\n")
        assert await client.status() == "HTTP/1.0 400 Bad Request"
        garbage = await port.connect(data=b"GET / HTTP/9\r\n\x00\r\n\r\n")
        assert await garbage.status() == "HTTP/1.0 400 Bad Request"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_requests_up_to_the_limits_are_answered(start: Start) -> None:
    async with start(SLOW) as port:
        client = await port.connect()
        for _ in range(3):  # the limit is one of each request, not of the connection
            await client.send(GET + b"Authorization: Bearer " + b"a" * 8000 + b"\r\nX: " + b"b" * 7000 + b"\r\n\r\n")
            assert await client.status() == "HTTP/1.1 200 OK"
        assert not port.observer.closed


async def test_probes_and_metrics_are_answered_while_strangers_hold_all_connections(start: Start) -> None:
    async with start(Limits(request_seconds=PATIENCE, connections=100, per_address=40)) as port:
        strangers = [await port.connect(f"127.0.1.{number % 5}", GET) for number in range(100)]
        kubelet, prometheus = await port.connect("127.0.2.1"), await port.connect("127.0.2.2")
        for _ in range(3):
            assert await kubelet.request("/health") == "HTTP/1.1 200 OK"
            assert await kubelet.request("/ready") == "HTTP/1.1 200 OK"
            assert await prometheus.request("/metrics") == "HTTP/1.1 200 OK"
            strangers += [await port.connect(f"127.0.1.{number}", GET) for number in range(5)]
        await port.until_closed(Closed.DISPLACED, 17)
        assert kubelet.is_open()
        assert prometheus.is_open()


async def test_one_address_displaces_only_its_own_connections(start: Start) -> None:
    async with start(Limits(request_seconds=PATIENCE, connections=100, per_address=10)) as port:
        backend = await port.connect("127.0.2.1")
        assert await backend.request() == "HTTP/1.1 200 OK"
        for _ in range(300):
            await port.connect("127.0.1.1", GET)
        await port.until_closed(Closed.DISPLACED, 290)
        assert await backend.request() == "HTTP/1.1 200 OK"
        assert port.observer.closed == {Closed.DISPLACED: 290}


async def test_request_in_progress_keeps_its_connection(start: Start) -> None:
    async with start(Limits(request_seconds=PATIENCE, connections=10, per_address=3)) as port:
        busy = [await port.connect(data=b"GET /v1/slow HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
        refused = await port.connect()
        assert await refused.status() == "HTTP/1.1 503 Service Unavailable"
        await refused.closed()
        other = await port.connect("127.0.2.1")
        assert await other.request() == "HTTP/1.1 200 OK"
        port.release.set()
        for client in busy:
            assert await client.status() == "HTTP/1.1 200 OK"
        assert port.observer.closed == {Closed.REFUSED: 1}


async def test_closed_connections_do_not_count_against_the_limit(start: Start) -> None:
    async with start(Limits(connections=2, per_address=2)) as port:
        for _ in range(20):
            client = await port.connect()
            assert await client.request() == "HTTP/1.1 200 OK"
            client.close()
            await asyncio.sleep(0.01)
        assert not port.observer.closed
