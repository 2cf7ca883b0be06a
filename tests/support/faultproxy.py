"""A proxy between operator and API server: it records every request, and fails or changes chosen ones.

It serves plain HTTP on loopback and adds the credentials itself. `Fault` has the rules; `FaultProxy.requests` the record.
"""

import asyncio
import base64
import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml
from aiohttp import web

from support.kubectl import PATIENCE

DROPPED = 499
"""`Request.code` of a request whose connection a fault has closed."""
_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@dataclass(slots=True)
class Request:
    """A request that has reached the proxy."""

    method: str
    path: str
    """Path and query."""
    verb: str
    """As in RBAC: get, list, watch, create, update, patch, delete, deletecollection."""
    resource: str
    """The plural name; empty for a path that is no resource."""
    subresource: str
    namespace: str
    name: str
    """Of a creation, the name in the body."""
    body: bytes
    at: float
    """When it arrived, in seconds of `time.monotonic`."""
    code: int = 0
    """The status code of the answer: that of the API server or an injected one; 0 while there is none."""
    executed: bool = False
    """Whether the API server has answered."""
    accepted: bool = False
    """Whether it has executed the request, so that a write is in etcd."""
    version: str = ""
    """The resourceVersion of the object in the API server's answer to a write; empty if the answer has none."""
    uid: str = ""
    """Likewise the uid of the object."""
    lost: bool = False
    """Whether the client's connection was closed before the answer could be sent."""

    @property
    def is_write(self) -> bool:
        """Whether it writes to the cluster; an Event is no write of a reconcile, and a review or dry run changes nothing."""
        reviews = "reviews" in self.resource or self.subresource == "token" or "dryRun=" in self.path
        return self.method != "GET" and self.resource != "events" and not reviews

    @property
    def what(self) -> str:
        """The verb and resource: `create pods`, `patch userstorages/status`."""
        return f"{self.verb} {self.resource}" + (f"/{self.subresource}" if self.subresource else "")


def parse(method: str, path: str, body: bytes) -> Request:
    """Return the record of a request; `path` is path and query."""
    url = urlsplit(path)
    parts = [part for part in url.path.split("/") if part]
    rest = parts[{"api": 2, "apis": 3}.get(parts[0] if parts else "", len(parts)) :]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = [*rest, "", "", ""][:3]
    if method == "GET":
        verb = "get" if name else "watch" if "watch=" in url.query else "list"
    else:
        verb = "deletecollection" if method == "DELETE" and not name else _VERBS.get(method, method.lower())
    if verb == "create" and not name:
        with contextlib.suppress(ValueError, AttributeError):
            name = json.loads(body).get("metadata", {}).get("name", "")
    return Request(method, path, verb, resource, subresource, namespace, name, body, time.monotonic())


class Effect(Enum):
    """What happens to a request that a `Fault` matches. With `after`, the API server executes it first."""

    REFUSE = auto()
    """It is answered with `status`."""
    DELAY = auto()
    """It is forwarded, or its answer is returned, `seconds` later."""
    DROP = auto()
    """Its connection is closed without an answer."""
    HANG = auto()
    """It is never answered."""
    CALL = auto()
    """It waits until `hook` has run, in a thread; then it goes on."""
    SEVER = auto()
    """Its connection and all others are closed, and nothing is forwarded until `FaultProxy.restore`: to the world, and to the
    client, it is as if the client was killed at this request."""
    REPLAY = auto()
    """A list is answered as it was when `FaultProxy.keep_lists` was set last; if there was none, it is forwarded."""
    ERROR_EVENT = auto()
    """A watch is answered with one event, an error of `status`."""
    SUPPRESS = auto()
    """Events of a watch are swallowed; `event` is a regular expression for their type, and `name` is that of their object."""
    REPEAT = auto()
    """After each event of a watch, the object's event before it is sent once more, then the newer one again."""
    STALL = auto()
    """From its next event on, a watch stays silent for good, and open."""


_OF_EVENTS = frozenset({Effect.SUPPRESS, Effect.REPEAT, Effect.STALL})


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule: what happens to requests that match. All properties have to match; each is a regular expression for the whole
    value, but for `path`, which is found in path and query.
    """

    method: str = ".*"
    path: str = ""
    status: int = 503
    message: str = "injected by a test"
    _: KW_ONLY
    verb: str = ".*"
    resource: str = ".*"
    subresource: str = ".*"
    name: str = ".*"
    writes_only: bool = False
    nth: int = 1
    """The first matching request that is affected."""
    times: int | None = None
    """How many are affected; None for all from the `nth` on."""
    effect: Effect = Effect.REFUSE
    after: bool = False
    seconds: float = 0.0
    retry_after: int | None = None
    """Seconds in the header Retry-After of the answer."""
    event: str = ".*"
    hook: Callable[[], object] | None = None

    def matches(self, request: Request) -> bool:
        """Whether the rule is about the request. The name does not matter for a rule about the events of a watch."""
        return (
            re.fullmatch(self.method, request.method) is not None
            and re.search(self.path, request.path) is not None
            and re.fullmatch(self.verb, request.verb) is not None
            and re.fullmatch(self.resource, request.resource) is not None
            and re.fullmatch(self.subresource, request.subresource) is not None
            and (self.effect in _OF_EVENTS or re.fullmatch(self.name, request.name) is not None)
            and (request.is_write or not self.writes_only)
        )

    def response(self) -> web.Response:
        """Return the injected answer: a Status, or the event of a watch with one."""
        status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": self.message, "code": self.status}
        if self.effect is Effect.ERROR_EVENT:
            return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n", content_type="application/json")
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        return web.json_response(status, status=self.status, headers=headers)


@dataclass(slots=True)
class _Armed:
    fault: Fault
    seen: int = 0

    def strikes(self) -> bool:
        """Count a match, and return whether this one is affected."""
        self.seen += 1
        return self.seen >= self.fault.nth and (self.fault.times is None or self.seen < self.fault.nth + self.fault.times)


@dataclass(slots=True)
class _Kept:
    status: int
    headers: dict[str, str]
    payload: bytes


@dataclass(slots=True)
class FaultProxy:
    """The controls of a running proxy. Every method may be called from any thread."""

    kubeconfig: Path
    """For the operator."""
    requests: list[Request] = field(default_factory=list)
    """Every request in the order of arrival."""
    cut_off: bool = False
    """While set, requests are neither forwarded nor answered."""
    severed: bool = False
    """While set, every connection is closed without an answer."""
    stalled: int = 0
    """How many streams a STALL has silenced."""
    _armed: tuple[_Armed, ...] = ()
    _lists: dict[str, _Kept] = field(default_factory=dict)
    _keeping: bool = False
    _connections: dict[asyncio.Transport, asyncio.AbstractEventLoop] = field(default_factory=dict)

    def fail(self, *faults: Fault) -> None:
        """Replace the rules; without arguments the proxy forwards every request."""
        self._armed = tuple(_Armed(fault) for fault in faults)

    def unused(self) -> list[Fault]:
        """Return the rules that have affected no request yet."""
        return [armed.fault for armed in self._armed if armed.seen < armed.fault.nth]

    def hang_up(self) -> None:
        """Abort every connection with an unfinished response, such as a watch."""
        for transport, loop in list(self._connections.items()):
            loop.call_soon_threadsafe(transport.abort)

    def sever(self) -> None:
        """Close all connections, and all new ones, as if the client was killed."""
        self.severed = True
        self.hang_up()

    def restore(self) -> None:
        """Forward requests again, and forget the rules: another process takes over."""
        self.fail()
        self.severed = False

    def keep_lists(self) -> None:
        """Keep the answers to all lists from now on, until `freeze_lists`: REPLAY answers with the last of the same path."""
        self._lists.clear()
        self._keeping = True

    def freeze_lists(self) -> None:
        """Keep no further answers to lists."""
        self._keeping = False

    def writes(self, since: int = 0) -> list[Request]:
        """Return the recorded writes of reconciles, from request number `since` on."""
        return [request for request in self.requests[since:] if request.is_write]

    def _strike(self, request: Request) -> list[Fault]:
        return [
            armed.fault
            for armed in self._armed
            if armed.fault.effect not in _OF_EVENTS
            and not (armed.fault.after and self.severed)  # the API server will not execute the request
            and armed.fault.matches(request)
            and armed.strikes()
        ]

    def _strike_event(self, request: Request, event_type: str, name: str) -> Effect | None:
        for armed in self._armed:
            fault = armed.fault
            if fault.effect not in _OF_EVENTS or not fault.matches(request):
                continue
            if re.fullmatch(fault.event, event_type) and re.fullmatch(fault.name, name) and armed.strikes():
                return fault.effect
        return None

    @contextlib.contextmanager
    def _tracked(self, request: web.BaseRequest) -> Iterator[None]:
        """Register the request's connection until it is answered."""
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._connections[transport] = asyncio.get_running_loop()
        try:
            yield
        finally:
            self._connections.pop(transport, None)


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
            forwarder = _Forwarder(proxy, session, server, headers)
            runner = web.ServerRunner(web.Server(forwarder.handle), shutdown_timeout=0.1)
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


class _Forwarder:
    """Forwards requests, unless a fault has it otherwise."""

    def __init__(self, proxy: FaultProxy, session: aiohttp.ClientSession, server: str, headers: dict[str, str]) -> None:
        self._proxy = proxy
        self._session = session
        self._server = server
        self._headers = headers

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        if request.transport is None:
            return web.Response()
        with self._proxy._tracked(request):
            body = await request.read()
            record = parse(request.method, request.path_qs, body)
            self._proxy.requests.append(record)
            faults = self._proxy._strike(record)
            for fault in faults:
                if not fault.after and (injected := await self._apply(fault, record, request)) is not None:
                    record.code = injected.status
                    return injected
            if self._proxy.severed:
                return _drop(request)
            if self._proxy.cut_off:
                await asyncio.Event().wait()
            response = await self._forward(record, request, [fault for fault in faults if fault.after])
            record.lost = request.transport is None or request.transport.is_closing()
            return response

    async def _apply(self, fault: Fault, record: Request, request: web.BaseRequest) -> web.Response | None:
        """Apply a fault, and return the answer that it gives; None if the request goes on."""
        match fault.effect:
            case Effect.DELAY:
                await asyncio.sleep(fault.seconds)
            case Effect.DROP:
                return _drop(request)
            case Effect.HANG:
                await _until_closed(request)
                return web.Response()
            case Effect.CALL:
                assert fault.hook is not None
                await asyncio.to_thread(fault.hook)
            case Effect.SEVER:
                self._proxy.sever()
                return _drop(request)
            case Effect.REPLAY:
                if record.verb == "list" and (kept := self._proxy._lists.get(record.path)) is not None:
                    return web.Response(status=kept.status, headers=kept.headers, body=kept.payload)
            case _:
                return fault.response()
        return None

    async def _forward(self, record: Request, request: web.BaseRequest, faults: list[Fault]) -> web.StreamResponse:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP} | self._headers
        url = self._server + record.path
        async with self._session.request(record.method, url, headers=headers, data=record.body or None) as answer:
            kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
            if record.verb == "watch" and answer.status == 200:
                record.code, record.executed, record.accepted = answer.status, True, True
                return await self._stream(record, request, answer, kept)
            payload = await answer.read()
        if record.is_write and answer.status < 300:
            _note_object(record, payload)
        record.executed, record.accepted = True, answer.status < 300
        if self._proxy._keeping and record.verb == "list":
            self._proxy._lists[record.path] = _Kept(answer.status, kept, payload)
        for fault in faults:
            if (injected := await self._apply(fault, record, request)) is not None:
                record.code = injected.status
                return injected
        if self._proxy.severed:
            return _drop(request)
        if self._proxy.cut_off:
            await asyncio.Event().wait()
        record.code = answer.status
        return web.Response(status=answer.status, headers=kept, body=payload)

    async def _stream(
        self, record: Request, request: web.BaseRequest, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        previous: dict[str, bytes] = {}
        rest = b""
        # The client may have closed the connection.
        with contextlib.suppress(ConnectionResetError):
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if self._proxy.cut_off:
                    await asyncio.Event().wait()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    for sent in await self._changed(record, request, line, previous):
                        await response.write(sent + b"\n")
        return response

    async def _changed(self, record: Request, request: web.BaseRequest, line: bytes, previous: dict[str, bytes]) -> list[bytes]:
        """Return the lines that are sent in the place of an event."""
        if not self._proxy._armed:
            return [line]
        event = json.loads(line)
        metadata = event["object"].get("metadata", {})
        name, uid = metadata.get("name", ""), metadata.get("uid", "")
        older, previous[uid] = previous.get(uid, line), line
        match self._proxy._strike_event(record, event["type"], name):
            case Effect.SUPPRESS:
                return []
            case Effect.REPEAT:
                return [line, older, line]
            case Effect.STALL:
                self._proxy.stalled += 1
                await _until_closed(request)
                return []
        return [line]


def _drop(request: web.BaseRequest) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=DROPPED)


async def _until_closed(request: web.BaseRequest) -> None:
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110  # aiohttp has no event for it
        await asyncio.sleep(0.05)


def _note_object(record: Request, payload: bytes) -> None:
    metadata = json.loads(payload).get("metadata", {})
    record.version, record.uid = metadata.get("resourceVersion", ""), metadata.get("uid", "")


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
