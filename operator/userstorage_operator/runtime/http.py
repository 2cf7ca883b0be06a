"""The operator's HTTP server: `/health`, `/ready`, `/metrics`, and the aiohttp applications that are mounted into it.

`/health` and `/ready` need no token, so their responses name no UserStorage.
"""

import asyncio
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
    """A TCP port whose connections are limited."""

    def __init__(self, connection: Callable[[ConnectionLimiter], Connection], observer: ConnectionObserver) -> None:
        """`connection(limiter)` returns what serves a new connection."""
        self._connection = connection
        self._observer = observer
        self.limiter = ConnectionLimiter(_LIMITS, observer.http_connection_closed)
        self._listener: asyncio.AbstractServer | None = None

    async def start(self, port: int, limits: Limits) -> None:
        """Listen on TCP port `port` of all addresses. Raises OSError if the port is in use."""
        self.limiter = limiter = ConnectionLimiter(limits, self._observer.http_connection_closed)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: self._connection(limiter), port=port, backlog=_BACKLOG)

    def stop(self) -> None:
        """Stop listening on the port."""
        if self._listener is not None:
            self._listener.close()


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
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=_LIMITS.idle_seconds, max_headers=_HEADERS)
        self._port = LimitedPort(self._connection, observer)
        logging.getLogger("aiohttp.server").addFilter(_is_no_bad_request)

    def mount(self, prefix: str, app: web.Application) -> list[str]:
        """Serve the routes of `app` below the URL path `prefix`, and report their responses to the observer. Return every value
        of `handler` that the observer can get. Must be called before `start`.
        """
        app.middlewares.insert(0, _observed(self._observer))
        self._app.add_subapp(prefix, app)
        return [*(resource.canonical for resource in app.router.resources()), _UNKNOWN]

    async def start(self, port: int, limits: Limits = _LIMITS) -> None:
        """Listen on TCP port `port` of all addresses. Raises OSError if the port is in use."""
        await self._runner.setup()
        # Not a TCPSite: aiohttp limits neither the connections, nor the size of a request, nor the time until it is complete.
        await self._port.start(port, limits)

    async def stop(self) -> None:
        """Stop listening on the port and close all connections of clients."""
        self._port.stop()
        await self._runner.cleanup()

    def _connection(self, limiter: ConnectionLimiter) -> Connection:
        server = cast("web.Server", self._runner.server)
        return Connection(server(), limiter)

    @web.middleware
    async def _in_progress(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Report the start and the end of a request's handler to the request's Connection. An aiohttp middleware."""
        connection = self._port.limiter.of_protocol(request.protocol)
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
