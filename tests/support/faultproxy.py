"""A proxy between operator and API server that fails chosen requests.

It serves plain HTTP on loopback and adds the credentials itself.
"""

import asyncio
import base64
import contextlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from support.kubectl import PATIENCE

_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule: matching requests get `status` as the response and never reach the API server."""

    method: str  # a regular expression for the whole method
    path: str  # a regular expression found in path and query
    status: int
    message: str = "injected by a test"


class FaultProxy:
    """The controls of a running proxy. Every method may be called from any thread."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig  # for the operator
        self.requests: list[tuple[str, str, int]] = []  # method, path and status code of every request
        self._faults: tuple[Fault, ...] = ()
        self._ending: tuple[str, int] | None = None
        self.cut_off = False  # while set, requests are neither forwarded nor answered
        self._streams: dict[asyncio.Transport, asyncio.AbstractEventLoop] = {}

    def hang_up(self) -> None:
        """Abort every connection with an unfinished response, such as a watch."""
        for transport, loop in list(self._streams.items()):
            loop.call_soon_threadsafe(transport.abort)

    @contextlib.contextmanager
    def track_stream(self, request: web.BaseRequest) -> Iterator[None]:
        """Register the request's connection while its response is being sent."""
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._streams[transport] = asyncio.get_running_loop()
        try:
            yield
        finally:
            del self._streams[transport]

    def fail(self, *faults: Fault) -> None:
        """Replace the rules; without arguments the proxy forwards every request."""
        self._faults = faults

    def end_next_watch(self, path: str, code: int) -> None:
        """Answer the next watch whose path and query match `path` with an error event. The API server sends 410 once etcd has
        compacted the version from which the watch starts.
        """
        self._ending = path, code

    def ended_watch(self, path: str) -> web.Response | None:
        """Return the response to a watch that `end_next_watch` is about; None for any other request."""
        if self._ending is None or "watch=" not in path or not re.search(self._ending[0], path):
            return None
        (_, code), self._ending = self._ending, None
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "injected by a test"}
        return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n", content_type="application/json")

    def injected_response(self, method: str, path: str) -> web.Response | None:
        """Return the injected error response, or None if no rule matches."""
        for fault in self._faults:
            if re.fullmatch(fault.method, method) and re.search(fault.path, path):
                status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": fault.message}
                return web.json_response(status | {"code": fault.status}, status=fault.status)
        return None


@contextlib.contextmanager
def running(upstream: Path, directory: Path) -> Iterator[FaultProxy]:
    """Run a proxy for the API server of the kubeconfig `upstream`, on its own thread."""
    proxy, ready, done = FaultProxy(directory / "proxied"), threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        server, headers, tls = _login(upstream, directory)
        connector, forever = aiohttp.TCPConnector(ssl=tls, limit=0), aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=forever, auto_decompress=False) as session:
            runner = web.ServerRunner(web.Server(partial(_forward, proxy, session, server, headers)), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            _write_kubeconfig(proxy.kubeconfig, runner.addresses[0][1])
            ready.set()
            await done.wait()
            await runner.cleanup()
        await asyncio.sleep(0.25)  # aiohttp's documentation requires a pause between closing TLS sessions and the loop

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(timeout=PATIENCE)
    try:
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(done.set)
        thread.join(timeout=PATIENCE)


async def _forward(
    proxy: FaultProxy, session: aiohttp.ClientSession, server: str, extra: dict[str, str], request: web.BaseRequest
) -> web.StreamResponse:
    injected = proxy.injected_response(request.method, request.path_qs) or proxy.ended_watch(request.path_qs)
    if injected is not None:
        proxy.requests.append((request.method, request.path_qs, injected.status))
        return injected
    headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP} | extra
    body = await request.read()
    if proxy.cut_off:
        await asyncio.Event().wait()
    async with session.request(request.method, server + request.path_qs, headers=headers, data=body or None) as answer:
        proxy.requests.append((request.method, request.path_qs, answer.status))
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        # The client may have closed the connection, for example of a watch.
        with proxy.track_stream(request), contextlib.suppress(ConnectionResetError):
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if proxy.cut_off:
                    await asyncio.Event().wait()
                await response.write(chunk)
        return response


def _login(kubeconfig: Path, directory: Path) -> tuple[str, dict[str, str], ssl.SSLContext]:
    """Return the address, headers and TLS settings of the kubeconfig's first cluster and user."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    if "client-certificate-data" in user:
        pair = directory / "client.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))
        tls.load_cert_chain(pair)
    return cluster["server"], {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}, tls


def _write_kubeconfig(path: Path, port: int) -> None:
    config: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "current-context": "proxied"}
    config["contexts"] = [{"name": "proxied", "context": {"cluster": "proxied", "user": "anonymous"}}]
    config["clusters"] = [{"name": "proxied", "cluster": {"server": f"http://127.0.0.1:{port}"}}]
    path.write_text(json.dumps(config | {"users": [{"name": "anonymous", "user": {}}]}))
