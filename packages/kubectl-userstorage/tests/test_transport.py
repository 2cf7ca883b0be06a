"""How requests reach the API server, and connections a pod: over real sockets, with an API server that answers as a test says."""

import asyncio
import functools
import gc
import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import WSMessage, web

from kubectl_userstorage import errors
from kubectl_userstorage.api import PODS
from kubectl_userstorage.cluster import Cluster, Target
from kubectl_userstorage.ownerproxy import OwnerProxy
from kubectl_userstorage.portforward import PROTOCOL, Channels
from kubectl_userstorage.transport import connect

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c"}]}}
PORT = (8080).to_bytes(2, "little")


class Ending(Enum):
    """How a connection to a pod ends, at the first data of a client."""

    ERROR = auto()
    CLOSE = auto()
    FAULT = auto()
    END = auto()
    RESET = auto()
    NONSENSE = auto()
    AWAY = auto()
    """The API server ends the connection before it has answered."""


class ApiServer:
    """An API server whose pods echo what they receive. `accepted` is the token that it knows, None for every one."""

    def __init__(self) -> None:
        self.accepted: str | None = None
        self.refusal: int | None = None
        self.failure: bytes | None = None
        self.exec_status: dict[str, Any] = {"status": "Success"}
        self.exec_output = b"done\n"
        self.ending: Ending | None = None
        self.requests: list[str] = []
        self.open_sockets = 0

    @web.middleware
    async def check(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        self.requests.append(request.path)
        if self.accepted is not None and request.headers.get("Authorization") != f"Bearer {self.accepted}":
            return web.json_response({"message": "Unauthorized"}, status=401)
        if self.refusal is not None and request.path not in ("/version/", "/api/v1/namespaces/n/pods/p"):
            return web.json_response({"message": "refused"}, status=self.refusal)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def version(self, _: web.Request) -> web.Response:
        return web.json_response({"gitVersion": "v1.36.1"})

    async def pods(self, _: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": []})

    async def pod(self, _: web.Request) -> web.Response:
        ready = {"conditions": [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]}
        return web.json_response({**POD, "status": {**ready, "phase": "Running"}})

    async def portforward(self, request: web.Request) -> web.WebSocketResponse:
        assert request.query["ports"] == "8080"
        if self.ending is Ending.AWAY:
            assert request.transport is not None
            request.transport.abort()
        socket = web.WebSocketResponse(protocols=[PROTOCOL])
        await socket.prepare(request)
        self.open_sockets += 1
        try:
            await socket.send_bytes(b"\0" + PORT)
            await socket.send_bytes(b"\1" + PORT)
            if self.failure is not None:
                await socket.send_bytes(b"\1" + self.failure)
            async for message in socket:
                assert isinstance(message, WSMessage)
                assert message.data[:1] == b"\0"
                if message.data == b"\0end":
                    break
                if self.ending is not None:
                    await self._end(request, socket)
                    break
                if message.data.startswith(b"\0GET "):
                    await socket.send_bytes(b"\0HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                else:
                    await socket.send_bytes(message.data)
            return socket
        finally:
            self.open_sockets -= 1

    async def _end(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        """End a connection to a pod as the kubelet, or what is between, does."""
        assert request.transport is not None
        match self.ending:
            case Ending.ERROR:
                await socket.send_bytes(b"\1error forwarding port 8080 to pod p: connection refused")
            case Ending.CLOSE:
                await socket.close()
            case Ending.FAULT:
                await socket.close(code=1011, message=b"internal error")
            case Ending.END:
                request.transport.close()
            case Ending.RESET:
                request.transport.abort()
            case Ending.NONSENSE:
                request.transport.write(b"\xff\xff no WebSocket")

    async def execute(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=[PROTOCOL])
        await socket.prepare(request)
        await socket.send_bytes(b"\1" + self.exec_output)
        await socket.send_bytes(b"\3" + json.dumps(self.exec_status).encode())
        await socket.close()
        return socket


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@asynccontextmanager
async def reached(server: ApiServer, directory: Path, user: dict[str, Any] | None = None) -> AsyncIterator[Cluster]:
    app = web.Application(middlewares=[server.check])
    app.router.add_get("/version/", server.version)
    app.router.add_get("/api/v1/namespaces/n/pods", server.pods)
    app.router.add_get("/api/v1/namespaces/n/pods/p", server.pod)
    app.router.add_get("/api/v1/namespaces/n/pods/p/portforward", server.portforward)
    app.router.add_get("/api/v1/namespaces/n/pods/p/exec", server.execute)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    path = directory / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
                "users": [{"name": "test", "user": user or {"token": "first"}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "n"}}],
            }
        )
    )
    try:
        async with connect(Target(kubeconfig=str(path))) as cluster:
            yield cluster
    finally:
        await runner.cleanup()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # kr8s leaves its connections to the end of the process
            gc.collect()


def plugin_with_tokens(directory: Path) -> dict[str, Any]:
    """Return a kubeconfig's user whose exec plugin prints the token in the file `token`, and counts its runs in `runs`."""
    program = directory / "plugin"
    version = "client.authentication.k8s.io/v1"
    credential = f'{{"apiVersion": "{version}", "kind": "ExecCredential", "status": {{"token": "%s"}}}}'
    program.write_text(f"#!/bin/sh\necho run >>{directory}/runs\nprintf '{credential}' \"$(cat {directory}/token)\"\n")
    program.chmod(0o755)
    return {"exec": {"apiVersion": version, "command": str(program), "interactiveMode": "Never"}}


async def used(cluster: Cluster, subresource: str) -> None:
    if subresource == "exec":
        await cluster.transport.execute(POD, "c", ["true"])
    else:
        async with cluster.transport.forward(POD, 8080):
            pass


async def read_until(stream: Any, wanted: bytes) -> bytes:
    found = b""
    while len(found) < len(wanted) and (data := await stream.read()):
        found += data
    return found


def test_messages_of_the_kubelet_are_taken_apart() -> None:
    channels = Channels()
    assert channels.data(b"\0" + PORT) == b""
    assert channels.data(b"\1" + PORT) == b""
    assert channels.data(b"\0abc") == b"abc"
    assert channels.data(b"\1") == b""
    with pytest.raises(ConnectionError, match="error forwarding port"):
        channels.data(b"\1error forwarding port 8080")
    with pytest.raises(ConnectionError, match="channel 2"):
        channels.data(b"\2x")


def test_port_may_come_in_parts_and_with_data() -> None:
    channels = Channels()
    assert [channels.data(b"\0" + part) for part in (PORT[:1], PORT[1:] + b"a", b"b")] == [b"", b"a", b"b"]


async def test_connection_to_a_pod_carries_data_both_ways(server: ApiServer, tmp_path: Path) -> None:
    async with reached(server, tmp_path) as cluster:
        async with cluster.transport.forward(POD, 8080) as stream:
            for data in (b"ping", b"\0\1\2", b"x" * 300_000):
                await stream.write(data)
                assert await read_until(stream, data) == data
            before = stream.is_ended
            assert not before
            await stream.write(b"end")
            assert await stream.read() == b""
            assert await stream.read() == b""
            assert stream.is_ended
            with pytest.raises(OSError, match="is over"):
                await stream.write(b"more")
        for _ in range(1000):
            if not server.open_sockets:
                return
            await asyncio.sleep(0.01)
        pytest.fail("the WebSocket is still open")


async def test_connection_that_the_kubelet_cannot_make_ends(server: ApiServer, tmp_path: Path) -> None:
    server.failure = b"error forwarding port 8080 to pod p: connection refused"
    async with reached(server, tmp_path) as cluster, cluster.transport.forward(POD, 8080) as stream:
        assert await stream.read() == b""


async def test_slow_reader_slows_the_pod_down(server: ApiServer, tmp_path: Path) -> None:
    async with reached(server, tmp_path) as cluster, cluster.transport.forward(POD, 8080) as stream:
        sent = 0
        try:
            async with asyncio.timeout(5):
                while sent < 1_000_000_000:
                    await stream.write(b"x" * 65536)
                    sent += 65536
        except TimeoutError:
            pass
        assert 0 < sent < 200_000_000


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (403, errors.Forbidden, "needs the rights get and create"),
        (404, errors.NotFound, "404"),
        (429, errors.Unavailable, "429"),
        (500, errors.Unavailable, "500"),
    ],
)
@pytest.mark.parametrize("subresource", ["portforward", "exec"])
async def test_refused_connection_is_one_line_and_tried_once(
    server: ApiServer, tmp_path: Path, subresource: str, status: int, kind: type[errors.CommandError], text: str
) -> None:
    async with reached(server, tmp_path) as cluster:
        server.refusal = status
        with pytest.raises(kind) as refused:
            await used(cluster, subresource)
        assert f"pods/{subresource} of 'p' in namespace 'n'" in refused.value.message
        assert text in refused.value.message
        assert [path for path in server.requests if path.endswith(subresource)] == [
            f"/api/v1/namespaces/n/pods/p/{subresource}"
        ]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"status": "Success"}, 0),
        ({"status": "Failure", "message": "x", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}, 7),
    ],
)
async def test_command_in_a_pod_returns_its_exit_code(
    server: ApiServer, tmp_path: Path, status: dict[str, Any], code: int
) -> None:
    server.exec_status = status
    async with reached(server, tmp_path) as cluster:
        assert await cluster.transport.execute(POD, "c", ["true"]) == (code, "done\n", "")


async def test_command_that_cannot_be_run_is_a_failure_of_the_command_line(server: ApiServer, tmp_path: Path) -> None:
    server.exec_status = {"status": "Failure", "message": "x", "details": {"causes": [{"message": "container not found"}]}}
    async with reached(server, tmp_path) as cluster:
        with pytest.raises(errors.Unreachable, match="could not be run"):
            await cluster.transport.execute(POD, "c", ["true"])
        server.exec_status = None  # type: ignore[assignment]  # a message that kr8s does not expect
        server.exec_output = b""
        with pytest.raises(errors.CommandError):
            await cluster.transport.execute(POD, "c", ["true"])


@pytest.mark.parametrize("status", [429, 500, 503, 504])
async def test_server_that_cannot_answer_now_is_unavailable(server: ApiServer, tmp_path: Path, status: int) -> None:
    async with reached(server, tmp_path) as cluster:
        server.refusal = status
        with pytest.raises(errors.Unavailable):
            await cluster.list_all(PODS, "n")


async def test_credentials_that_expire_are_renewed_once(server: ApiServer, tmp_path: Path) -> None:
    token, runs = tmp_path / "token", tmp_path / "runs"
    token.write_text("first")
    server.accepted = "first"
    async with reached(server, tmp_path, plugin_with_tokens(tmp_path)) as cluster:
        async with cluster.transport.forward(POD, 8080) as stream:
            token.write_text("second")
            server.accepted = "second"
            assert await asyncio.gather(*(cluster.list_all(PODS, "n") for _ in range(5))) == [[]] * 5
            assert runs.read_text() == "run\n" * 2
            await stream.write(b"ping")  # what was opened before stays open
            assert await stream.read() == b"ping"
        token.write_text("third")
        server.accepted = "third"
        async with cluster.transport.forward(POD, 8080) as stream:
            await stream.write(b"ping")
            assert await stream.read() == b"ping"
        token.write_text("fourth")
        server.accepted = "fourth"
        assert (await cluster.transport.execute(POD, "c", ["true"]))[0] == 0
        assert runs.read_text() == "run\n" * 4
        server.accepted = "of another one"
        with pytest.raises(errors.Unauthorized):
            await cluster.list_all(PODS, "n")


@pytest.mark.parametrize("client_is_kept", [True, False])
@pytest.mark.parametrize("failure", [*Ending, 403, 404, 500, 503])
async def test_open_answers_502_while_the_pod_does_not_and_works_again_afterwards(
    server: ApiServer, tmp_path: Path, failure: Ending | int, client_is_kept: bool
) -> None:
    async with reached(server, tmp_path) as cluster:
        connect_to_pod = functools.partial(cluster.transport.forward, POD, 8080)
        async with (
            OwnerProxy(connect_to_pod, "X-Forwarded-User", "alice").serving(0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client,
        ):
            for _ in range(2):
                if client_is_kept:
                    assert (await client.get("/")).text == "ok"
                if isinstance(failure, Ending):
                    server.ending = failure
                else:
                    server.refusal = failure
                    server.ending = Ending.CLOSE  # of the connection that is open
                for _ in range(3):
                    answer = await client.get("/")
                    assert answer.status_code == 502
                    assert answer.text.startswith("the file browser does not answer; is its pod still running?\n")
                server.ending = server.refusal = None
                assert (await client.get("/")).text == "ok"
