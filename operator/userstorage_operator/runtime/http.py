"""The operator's HTTP server: `/health`, `/ready`, `/metrics`, and the aiohttp applications that are mounted into it.

`/health` and `/ready` need no token, so their responses name no UserStorage.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from userstorage_operator.runtime.connections import Connection, ConnectionLimiter, Limits

Check = Callable[[], Awaitable[str | None]]
"""A health check: returns None if all is well, else a message about the problem."""

Gate = Callable[[web.Request], Awaitable[web.Response | None]]
"""Authorizes a request: returns None if the caller may send it, else the response that refuses it."""

_UNKNOWN = "unknown"
_LIMITS = Limits()
_BACKLOG = 1024
"""Maximum number of connections that the kernel queues until the server accepts them. It is large, so that the kernel does not
drop the connection of a probe while a client floods the port.
"""
_HEADERS = 64
"""Maximum number of headers of a request."""
_LAST_RESPONSE = 1.0
"""Seconds that clients of a `HandlerServer` have to read the rest of their last response, before it is aborted."""
_POLL = 0.05
"""Seconds after which a `HandlerServer` that stops looks again for open connections."""


class ConnectionObserver(Protocol):
    """Receives the connections that a server closes because of a limit, for metrics."""

    def http_connection_closed(self, reason: str) -> None:
        """Record a connection that the server closed because of a limit; `reason` is a value of `connections.Closed`."""


class HttpObserver(ConnectionObserver, Protocol):
    """Receives the responses of mounted applications too."""

    def http_answered(self, handler: str, code: int, seconds: float) -> None:
        """Record a response of a mounted application. `handler` is the pattern of the route: the URL path itself contains
        names.
        """


async def open_to_all(_: web.Request) -> web.Response | None:
    """Return None for every request: the Gate of an endpoint that needs no authorization."""
    return None


class LimitedPort:
    """A TCP port whose connections are limited, for an aiohttp server."""

    def __init__(self, runner: web.BaseRunner, observer: ConnectionObserver) -> None:
        self._runner = runner
        self._observer = observer
        self._limiter = ConnectionLimiter(_LIMITS, observer.http_connection_closed)
        self._listener: asyncio.AbstractServer | None = None
        logging.getLogger("aiohttp.server").addFilter(_is_no_bad_request)

    async def start(self, port: int, limits: Limits) -> None:
        """Listen on TCP port `port` of all addresses. Raises OSError if the port is in use."""
        self._limiter = ConnectionLimiter(limits, self._observer.http_connection_closed)
        await self._runner.setup()
        # Not a TCPSite: aiohttp limits neither the connections, nor the size of a request, nor the time until it is complete.
        self._listener = await asyncio.get_running_loop().create_server(self._connection, port=port, backlog=_BACKLOG)

    def close(self) -> None:
        """Stop listening on the port. Open connections stay."""
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """Stop listening on the port and close all connections of clients."""
        self.close()
        await self._runner.cleanup()

    def connection(self, request: web.BaseRequest) -> Connection | None:
        """Return the connection of a request; None if it is closed."""
        return self._limiter.of_protocol(request.protocol)

    def _connection(self) -> Connection:
        server = cast("web.Server", self._runner.server)
        return Connection(server(), self._limiter)


class HandlerServer:
    """Serves a port with one function for every request, whatever its method and path: a router would cost more time than an
    answer from memory.
    """

    def __init__(
        self, handler: Callable[[web.BaseRequest, float], web.Response], limits: Limits, observer: ConnectionObserver
    ) -> None:
        """`handler(request, received)` returns the response; `received` is the value of `time.perf_counter` when the last byte
        of the request arrived. It never reads the body of a request.
        """
        self._handler = handler
        self._limits = limits
        self._stopping = False
        """Whether each response is the last of its connection."""
        self._server = web.Server(
            self._handle,
            access_log=None,
            keepalive_timeout=limits.idle_seconds,
            max_headers=_HEADERS,
            max_line_size=limits.request_bytes,
            max_field_size=limits.request_bytes,
            auto_decompress=False,
        )
        self._port = LimitedPort(web.ServerRunner(self._server, shutdown_timeout=_LAST_RESPONSE), observer)

    async def start(self, port: int) -> None:
        """Listen on TCP port `port` of all addresses. Raises OSError if the port is in use."""
        await self._port.start(port, self._limits)

    async def stop(self, within: float) -> None:
        """Stop listening on the port, and close each connection after its next response; after so many seconds all the others.

        A connection that is closed while a client sends the next request fails that request: proxies do not repeat a POST.
        """
        self._port.close()
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._server.connections:  # noqa: ASYNC110  # aiohttp reports no end of a connection
                    await asyncio.sleep(_POLL)
        await self._port.stop()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        connection = self._port.connection(request)
        if connection is None:  # closed meanwhile, so that the response goes nowhere
            return web.Response(status=503)
        connection.request_started()
        try:
            response = self._handler(request, connection.received_at)
        finally:
            connection.request_ended()
        # A client that gets a response before it has sent its body may leave the body out: what it sends next would be read as
        # the body.
        if self._stopping or not request.content.is_eof():
            connection.answered_last()
            response.force_close()
        return response


class HttpServer:
    """Serves `/health`, `/ready`, `/metrics` and mounted applications. `/health` and `/ready` respond with 200, or with 503 if
    a check fails; the JSON body names the failed checks.
    """

    def __init__(
        self,
        health: Mapping[str, Check],
        ready: Mapping[str, Check],
        degraded: Mapping[str, Check],
        detail: Callable[[], Mapping[str, object]],
        metrics: Callable[[], bytes],
        metrics_type: str,
        observer: HttpObserver,
        gate: Gate = open_to_all,
    ) -> None:
        """`gate` authorizes requests to `/metrics`. A failed check of `degraded` is named in the response of `/ready`, but does
        not change its status. `detail` returns more fields for the responses of `/health` and `/ready`, such as the role of
        this process.
        """
        self._metrics = metrics
        self._metrics_type = metrics_type
        self._observer = observer
        self._gate = gate
        self._app = app = web.Application(middlewares=[self._in_progress])
        app.router.add_get("/health", _checks(health, {}, detail))
        app.router.add_get("/ready", _checks(ready, degraded, detail))
        app.router.add_get("/metrics", self._serve_metrics)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=_LIMITS.idle_seconds, max_headers=_HEADERS)
        self._port = LimitedPort(runner, observer)

    def mount(self, prefix: str, app: web.Application) -> list[str]:
        """Serve the routes of `app` below the URL path `prefix`, and report their responses to the observer. Return every value
        of `handler` that the observer can get. Must be called before `start`.
        """
        app.middlewares.insert(0, _observed(self._observer))
        self._app.add_subapp(prefix, app)
        return [*(resource.canonical for resource in app.router.resources()), _UNKNOWN]

    async def start(self, port: int, limits: Limits = _LIMITS) -> None:
        """Listen on TCP port `port` of all addresses. Raises OSError if the port is in use."""
        await self._port.start(port, limits)

    async def stop(self) -> None:
        """Stop listening on the port and close all connections of clients."""
        await self._port.stop()

    @web.middleware
    async def _in_progress(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Report the start and the end of a request's handler to the request's Connection. An aiohttp middleware."""
        connection = self._port.connection(request)
        if connection is None:  # closed meanwhile
            return await handler(request)
        connection.request_started()
        try:
            return await handler(request)
        finally:
            connection.request_ended()

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        if (refusal := await self._gate(request)) is not None:
            return refusal
        return web.Response(body=self._metrics(), headers={"Content-Type": self._metrics_type})


def _checks(
    checks: Mapping[str, Check], degrading: Mapping[str, Check], detail: Callable[[], Mapping[str, object]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        failing, degraded = await _failing(checks), await _failing(degrading)
        state = "failing" if failing else "degraded" if degraded else "ok"
        body = {"status": state, "failing": failing, "degraded": degraded, **detail()}
        return web.json_response(body, status=503 if failing else 200)

    return answer


async def _failing(checks: Mapping[str, Check]) -> dict[str, str]:
    return {name: problem for name, check in checks.items() if (problem := await check()) is not None}


def _is_no_bad_request(record: logging.LogRecord) -> bool:
    """Whether a log record is about anything but a malformed request. Malformed requests are not logged: anyone who can connect
    could fill the log with them.
    """
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


def _observed(observer: HttpObserver) -> Middleware:
    @web.middleware
    async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
        started, code = time.perf_counter(), 500
        try:
            response = await handler(request)
            code = response.status
        except web.HTTPException as error:
            code = error.status
            raise
        finally:
            route = request.match_info.route.resource
            observer.http_answered(route.canonical if route is not None else _UNKNOWN, code, time.perf_counter() - started)
        return response

    return observed
