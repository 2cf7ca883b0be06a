"""The operator's HTTP server: health, readiness, metrics, and mounted applications.

`/health` and `/ready` need no token, so their answers name no UserStorage.
"""

import time
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

Check = Callable[[], Awaitable[str | None]]
"""Returns None if all is well, else a message about the problem."""
ObserveResponse = Callable[[str, int, float], None]
"""Called for every response of a mounted application with the route's pattern, the status code and the duration in seconds. It
gets the pattern instead of the path, because a path contains names.
"""

Gate = Callable[[web.Request], Awaitable[web.Response | None]]
"""Returns the response that refuses an unauthorized caller; None for an authorized one."""

_UNKNOWN = "unknown"


async def open_to_all(_: web.Request) -> web.Response | None:
    """Let every caller through: the gate for open endpoints."""
    return None


class HttpServer:
    """Serves `/health`, `/ready` and `/metrics`. The first two answer 200, or 503 if a check fails; the JSON names the failed
    checks.
    """

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
        """`gate` guards `/metrics`. A failed check of `degraded` is reported by `/ready`, but does not make it fail. `detail`
        returns more fields for the answers of `/health` and `/ready`, such as the role of this process.
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
        """Serve the routes of `app` below the path `prefix` and observe their responses. Return all route patterns with which
        the observer may be called. Must be called before `start`.
        """
        app.middlewares.insert(0, _observed(self._observe))
        self._app.add_subapp(prefix, app)
        return [*(resource.canonical for resource in app.router.resources()), _UNKNOWN]

    async def start(self, port: int) -> None:
        """Listen on all addresses. Raises OSError if the port is in use."""
        await self._runner.setup()
        await web.TCPSite(self._runner, port=port).start()

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        await self._runner.cleanup()

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


def _observed(observe: ObserveResponse) -> Middleware:
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
            observe(route.canonical if route is not None else _UNKNOWN, code, time.perf_counter() - started)
        return response

    return observed
