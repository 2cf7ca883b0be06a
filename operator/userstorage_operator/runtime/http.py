"""The operator's HTTP server: health, readiness, metrics, and what is mounted. Content-free where anybody may ask."""

import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

Check = Callable[[], Awaitable[str | None]]
"""None where all is well, else what is wrong, for people."""
ObserveResponse = Callable[[str, int, float], None]
"""Told of every answer of what is mounted: the route's pattern (never a path: paths hold names), the status code, seconds."""

Gate = Callable[[web.Request], Awaitable[web.Response | None]]
"""The answer to one who may not ask; None for one who may."""

_UNKNOWN = "unknown"


async def open_to_all(_: web.Request) -> web.Response | None:
    """No gate."""
    return None


class HttpServer:
    """`/health` and `/ready` answer 200 or 503 with JSON that names what failed; `/metrics` Prometheus text."""

    def __init__(
        self,
        health: Mapping[str, Check],
        ready: Mapping[str, Check],
        degraded: Mapping[str, Check],
        detail: Callable[[], Mapping[str, object]],
        metrics: Callable[[], bytes],
        metrics_type: str,
        observe: ObserveResponse,
        gate: Gate = open_to_all,
    ) -> None:
        """`gate` stands before `/metrics`. `degrading`: what `/ready` tells of besides, since everybody is served all the same. `detail` is told with both
        answers: what a person wants to know of a process that is well.
        """
        self._metrics = metrics
        self._metrics_type = metrics_type
        self._observe = observe
        self._gate = gate
        self._app = app = web.Application()
        app.router.add_get("/health", _checks(health, {}, detail))
        app.router.add_get("/ready", _checks(ready, degraded, detail))
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, access_log=None)

    def mount(self, prefix: str, app: web.Application) -> list[str]:
        """Serve the routes of `app` below the path `prefix`, and have them observed: the words for that. Before `start`."""
        app.middlewares.insert(0, _observed(self._observe))
        self._app.add_subapp(prefix, app)
        return [*(resource.canonical for resource in app.router.resources()), _UNKNOWN]

    async def start(self, port: int) -> None:
        """Listen on all addresses. Raises OSError where the port is taken."""
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port).start()

    async def stop(self) -> None:
        """End it, and the connections with it."""
        await self._runner.cleanup()

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        if (refusal := await self._gate(request)) is not None:
            return refusal
        return web.Response(body=self._metrics(), headers={"Content-Type": self._metrics_type})


def _checks(
    checks: Mapping[str, Check], degrading: Mapping[str, Check], detail: Callable[[], Mapping[str, object]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        wrong, poor = await _failing(checks), await _failing(degrading)
        told = "failing" if wrong else "degraded" if poor else "ok"
        status = {"status": told, "failing": wrong, "degraded": poor, **detail()}
        return web.json_response(status, status=503 if wrong else 200)

    return answer


async def _failing(checks: Mapping[str, Check]) -> dict[str, str]:
    return {name: problem for name, check in checks.items() if (problem := await check()) is not None}


def _observed(observe: ObserveResponse) -> Middleware:
    @web.middleware
    async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
        began, code = time.perf_counter(), 500
        try:
            response = await handler(request)
            code = response.status
        except web.HTTPException as error:
            code = error.status
            raise
        finally:
            route = request.match_info.route.resource
            observe(route.canonical if route is not None else _UNKNOWN, code, time.perf_counter() - began)
        return response

    return observed
