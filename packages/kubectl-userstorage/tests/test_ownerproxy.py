"""The proxy of `kubectl userstorage open`, over real sockets: who the pod believes the user is, and whom the proxy refuses."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest

from kubectl_userstorage import errors
from kubectl_userstorage.ownerproxy import OwnerProxy, SocketStream, as_owner

HEADER = "X-Forwarded-User"
PATIENCE = 180.0
"""Seconds: the bound of every wait."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""In place of a context that reads 144 authorities for each client."""


class Upstream:
    """An HTTP server that answers each request with the head of the request and its body, and knows how many connections it had."""

    def __init__(self) -> None:
        self.connections = 0
        self.streams: list[SocketStream] = []
        self.port = 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[SocketStream]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        stream = SocketStream(reader, writer)
        self.streams.append(stream)
        try:
            yield stream
        finally:
            self.streams.remove(stream)
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            if head.startswith(b"POST /refused"):
                writer.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
                while await reader.read(65536):
                    pass
                break
            if head.startswith(b"POST /dying"):
                await reader.readexactly(1000)
                break
            fields = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2]]
            sizes = [int(value) for name, value in fields if name.lower() == b"content-length"]
            if any(name.lower() == b"upgrade" for name, _ in fields):
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
                writer.write(await reader.readexactly(4))
                break
            body = head + (await reader.readexactly(sizes[0]) if sizes else b"")
            if head.startswith(b"GET /dead"):
                break
            last = b"connection: close\r\n" if head.startswith(b"GET /last") else b""
            writer.write(b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (last, len(body), body))
            if head.startswith((b"GET /idle", b"GET /last")):  # a server that closes a connection which is kept alive
                break
        await writer.drain()
        writer.close()


@asynccontextmanager
async def proxied(header: str = HEADER) -> AsyncIterator[tuple[httpx.AsyncClient, Upstream]]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    proxy = OwnerProxy(upstream.connect, header, "alice@example.org")
    async with (
        proxy.serving(0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", verify=NO_TLS, trust_env=False) as client,
    ):
        yield client, upstream
    server.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the condition never became true")


def values(text: str, header: str = HEADER) -> list[str]:
    return [line.split(": ", 1)[1] for line in text.splitlines() if line.lower().startswith(f"{header.lower()}: ")]


@pytest.mark.parametrize("sent", ["X-Forwarded-User", "x-forwarded-user", "X_Forwarded_User", "X.Forwarded.User"])
async def test_pod_sees_the_owner_whatever_the_client_sends(sent: str) -> None:
    async with proxied() as (client, _):
        answer = await client.get("/files", headers={sent: "bob"})
        assert values(answer.text) == ["alice@example.org"]
        assert "bob" not in answer.text


async def test_connection_is_used_again_and_bodies_are_complete() -> None:
    async with proxied() as (client, upstream):
        for size in (0, 1, 300_000):
            answer = await client.post("/upload", content=b"x" * size)
            assert answer.text.endswith("\r\n\r\n" + "x" * size)
            assert values(answer.text) == ["alice@example.org"]
        assert upstream.connections == 1


async def test_class_without_authentication_gets_no_header() -> None:
    async with proxied(header="") as (client, _):
        assert values((await client.get("/")).text) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example.org"},
        {"Host": "127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Origin": "https://evil.example.org"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
async def test_requests_of_other_sites_and_hosts_are_refused(headers: dict[str, str]) -> None:
    async with proxied() as (client, upstream):
        assert (await client.get("/", headers=headers)).status_code == 403
        assert upstream.connections == 0


async def test_links_of_other_sites_may_be_followed() -> None:
    async with proxied() as (client, _):
        navigation = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert (await client.get("/", headers=navigation)).status_code == 200
        assert (await client.post("/", headers=navigation)).status_code == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_requests_of_the_own_page_are_served(name: str) -> None:
    async with proxied() as (client, _):
        origin = f"http://{name}:{client.base_url.port}"
        assert (await client.post("/", headers={"Origin": origin})).status_code == 200
        assert (await client.post("/", headers={"Origin": "null", "Sec-Fetch-Site": "same-origin"})).status_code == 200


async def test_connection_that_the_pod_has_closed_is_replaced_and_closed() -> None:
    async with proxied() as (client, upstream):
        for expected in (1, 2, 3):
            assert (await client.get("/idle")).status_code == 200
            assert upstream.connections == expected
            [stream] = upstream.streams
            await until(lambda stream=stream: stream.is_ended)  # type: ignore[misc]


async def test_pod_that_closes_each_connection_leaves_that_of_the_client_open() -> None:
    async with proxied() as (client, upstream):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        for expected in (1, 2):
            writer.write(f"GET /last HTTP/1.1\r\nHost: 127.0.0.1:{client.base_url.port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection: close" not in head.lower()
            [size] = [int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length")]
            await reader.readexactly(size)
            assert upstream.connections == expected
        writer.close()


class PromptStream:
    """A connection to a pod whose responses have arrived when the request is written, as on a busy machine."""

    is_ended = False

    def __init__(self) -> None:
        self._received = b""

    async def read(self) -> bytes:
        received, self._received = self._received, b""
        return received

    async def write(self, data: bytes) -> None:
        self._received += b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


async def test_response_that_is_there_at_once_leaves_the_connection_open() -> None:
    @asynccontextmanager
    async def connect() -> AsyncIterator[PromptStream]:
        yield PromptStream()

    async with OwnerProxy(connect, HEADER, "alice").serving(0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection: close" not in head.lower()
            assert await reader.readexactly(2) == b"ok"
        writer.close()


UPLOAD = b"x" * 30_000_000
"""More than the buffers of sockets hold: a client that is not read from is still sending when it gets the response."""


async def test_upload_that_the_pod_refuses_is_answered_and_ends_the_connection() -> None:
    async with proxied() as (client, upstream):
        answer = await client.post("/refused", content=UPLOAD)
        assert (answer.status_code, answer.headers["connection"]) == (413, "close")
        assert (await client.get("/")).status_code == 200
        assert upstream.connections == 2


async def test_upload_to_a_pod_that_ends_is_answered_with_502() -> None:
    async with proxied() as (client, _):
        answer = await client.post("/dying", content=UPLOAD)
        assert (answer.status_code, answer.headers["connection"]) == (502, "close")
        assert (await client.get("/")).status_code == 200


async def test_client_that_goes_away_while_it_uploads_ends_the_connection_to_the_pod() -> None:
    async with proxied() as (client, upstream):
        port = client.base_url.port
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9\r\n\r\nhalf".encode())
        await until(lambda: bool(upstream.streams))
        writer.close()
        await until(lambda: not upstream.streams)


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    async with proxied() as (client, upstream):
        answers = await asyncio.gather(*(client.post("/upload", content=str(number)) for number in range(20)))
        assert [answer.text.rpartition("\r\n\r\n")[2] for answer in answers] == [str(number) for number in range(20)]
        assert 1 < upstream.connections <= 20


@pytest.mark.parametrize("failure", [ConnectionRefusedError("refused"), errors.Forbidden("forbidden")])
async def test_refused_connection_is_tried_once_for_each_request(failure: Exception) -> None:
    tries = 0

    def refused() -> AbstractAsyncContextManager[SocketStream]:
        nonlocal tries
        tries += 1
        raise failure

    async with (
        OwnerProxy(refused, HEADER, "alice").serving(0) as port,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client,
    ):
        for number in (1, 2):
            answer = await client.get(f"http://127.0.0.1:{port}/")
            first, *cause = answer.text.splitlines()
            assert (answer.status_code, first) == (502, "the file browser does not answer; is its pod still running?")
            assert cause == (["forbidden"] if isinstance(failure, errors.Forbidden) else [])
            assert tries == number


async def test_pod_that_is_gone_is_reported_as_502() -> None:
    async with proxied() as (client, _):
        assert (await client.get("/dead")).status_code == 502
        assert (await client.get("/")).status_code == 200


async def test_switch_to_another_protocol_is_passed_through() -> None:
    async with proxied() as (client, _):
        port = client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        writer.write(head.encode() + b"ping")
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == b"ping"
        assert await reader.read() == b""  # the pod has ended it
        writer.close()


def test_name_of_the_owner_replaces_each_spelling() -> None:
    headers = [(b"x-forwarded-user", b"bob"), (b"x_forwarded-user", b"bob"), (b"accept", b"*/*"), (b"connection", b"close")]
    assert as_owner(headers, b"x-forwarded-user", b"alice") == [(b"accept", b"*/*"), (b"x-forwarded-user", b"alice")]
