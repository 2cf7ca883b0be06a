"""The composition root: connects all parts of one process. Every replica serves HTTP and watches; only the leader writes."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from importlib.metadata import version

import structlog

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.background import background, stop_on_signals
from userstorage_operator.config import Config
from userstorage_operator.election.leader_election import LeaderElection, NoElection
from userstorage_operator.health import HealthChecks
from userstorage_operator.kube import crds
from userstorage_operator.kube.client import KubeClient, Observer
from userstorage_operator.kube.login import login
from userstorage_operator.kube.probe import ApiProbe
from userstorage_operator.kube.reviews import KubeReviews
from userstorage_operator.manager import Manager
from userstorage_operator.object_metrics import LABEL_VALUES
from userstorage_operator.readapi.fallback_reader import FallbackReader
from userstorage_operator.readapi.metrics_gate import MetricsGate
from userstorage_operator.readapi.routes import ReadApi
from userstorage_operator.redis_cache.redis_cache import RedisCache
from userstorage_operator.runtime.event_loop_monitor import EventLoopMonitor
from userstorage_operator.runtime.garbage_collection import collect_periodically
from userstorage_operator.runtime.http import HttpServer, open_to_all
from userstorage_operator.runtime.metrics import CONTENT_TYPE, Metrics
from userstorage_operator.runtime.tracing import NOOP_TRACER, Tracer

log = structlog.get_logger(__name__)


class App:
    """The parts of one process, connected but not yet running."""

    def __init__(
        self,
        config: Config,
        client: KubeClient,
        fenced_client: KubeClient,
        election: LeaderElection | NoElection,
        metrics: Metrics,
        tracer: Tracer,
        set_leader: Callable[[bool], None],
    ) -> None:
        """`client` has no fence: every replica uses it, also to read and write the Lease. `fenced_client` is used for the
        leader's work.
        """
        self._config = config
        self._client = client
        self._election = election
        self._fenced_client = fenced_client
        self._redis = RedisCache(config.redis, config.scopes, metrics.serving)
        self._manager = Manager(config, fenced_client, metrics, self._redis, tracer)
        self._metrics = metrics
        self._set_leader = set_leader
        self._probe = ApiProbe(client)
        self._loop_monitor = EventLoopMonitor()

    def render_metrics(self) -> bytes:
        """Set the gauges, and return all metrics in the text format of Prometheus."""
        self._metrics.gauges.loop_lag.set(self._loop_monitor.lag())
        self._metrics.gauges.tasks.set(len(asyncio.all_tasks()))
        self._metrics.gauges.api_up.set(self._probe.unreachable is None)
        self._election.update_gauges(self._metrics)
        if self._election.is_leader:
            self._manager.update_gauges()
        return self._metrics.render()

    async def serve(self, stack: contextlib.AsyncExitStack, stop: asyncio.Event) -> None:
        """Start the parts that every replica runs: the HTTP server, the probe of the API server and the event loop monitor.
        They run until `stack` is closed. Raises OSError if the port is in use.
        """
        stack.push_async_callback(self._redis.close)
        if self._config.http_port:
            server = self._http_server()
            stack.push_async_callback(server.stop)
            await server.start(self._config.http_port)
        tasks = await stack.enter_async_context(background(stop))
        tasks.start(self._probe.run(), "api-probe")
        tasks.start(self._loop_monitor.run(), "event-loop-monitor")
        tasks.start(collect_periodically(), "garbage-collection")

    def _http_server(self) -> HttpServer:
        reviews = KubeReviews(self._client, self._config.api_audiences)
        checks = HealthChecks(self._probe, self._loop_monitor, self._election, self._manager, self._redis)
        server = HttpServer(
            checks.health,
            checks.readiness,
            checks.degraded,
            self._election.detail,
            self.render_metrics,
            CONTENT_TYPE,
            self._metrics.serving,
            MetricsGate(reviews).refusal if self._config.metrics_auth else open_to_all,
        )
        routes = server.mount("/v1", self._read_api(reviews).application())
        self._metrics.serving.http_labels(routes)
        return server

    def _read_api(self, reviews: KubeReviews) -> ReadApi:
        """Return the read API for platform backends. It reads the watch caches of the leader; the other replicas read what the leader
        keeps in Redis, so that a caller that reaches several of them reads one history.
        """
        config, manager = self._config, self._manager
        reader = FallbackReader(manager.reader, manager.is_leading, self._redis.reader(self._client))
        return ReadApi(reader, reviews, config.namespaces, version("userstorage-operator"))

    async def manage(self, stop: asyncio.Event) -> None:
        """Wait for the CRDs, then watch until `stop` is set, and write while this process leads. Only one replica leads at a time."""
        await crds.wait_established(self._probe, stop)
        if stop.is_set():
            return
        try:
            await self._manager.run(stop, self._elect, self._resign)
        finally:
            await self._resign()

    async def _elect(self, on_elected: Callable[[int], None]) -> None:
        """Take part in the election until cancelled. Call `on_elected(term)` when this process leads."""

        def elected(term: int) -> None:
            self._set_leader(True)
            on_elected(term)

        await self._election.run(elected)

    async def _resign(self) -> None:
        """Refuse further writes, wait until those in flight have ended, and stop being the leader."""
        await self._election.resign(drained=await self._fenced_client.finish_writing())
        self._set_leader(False)


async def run(config: Config, stop: asyncio.Event, set_leader: Callable[[bool], None]) -> None:
    """Run one process of the operator until SIGTERM, SIGINT or `stop`. `set_leader` is called when this process becomes the
    leader or resigns.

    Raises OperatorError if the login fails or a background task ended by itself, OSError if the port is in use.
    """
    stop_on_signals(stop)
    metrics = Metrics(version("userstorage-operator"), LABEL_VALUES)
    async with contextlib.AsyncExitStack() as stack:
        tracer = _tracer(config)
        stack.push_async_callback(tracer.close)
        client = KubeClient(await login(), metrics)
        stack.push_async_callback(client.close)
        election = LeaderElection(config.lease_namespace, client) if config.leader_elect else NoElection()
        fenced_client = KubeClient(await login(), FanOutObserver(metrics, tracer), election.fence)
        stack.push_async_callback(fenced_client.close)
        app = App(config, client, fenced_client, election, metrics, tracer, set_leader)
        await app.serve(stack, stop)
        await app.manage(stop)
    log.info("stopped")


class FanOutObserver:
    """Reports each request to the API server to several observers: metrics and traces."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Report a request to the API server to all observers."""
        for observer in self._observers:
            observer.requested(verb, resource, code, seconds)


def _tracer(config: Config) -> Tracer:
    if not config.otlp_endpoint:
        return NOOP_TRACER
    try:
        from userstorage_operator.runtime.otel import OtelTracer  # noqa: PLC0415  # an optional dependency: 40 MB that few installations need
    except ImportError as error:
        raise OperatorError(f"--otlp-endpoint: needs userstorage-operator[otel] ({error})", "InvalidOption") from error
    return OtelTracer(config.otlp_endpoint, version("userstorage-operator"), socket.gethostname())
