"""The composition root: what every replica does (serve), and what the one that leads does besides."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from importlib.metadata import version

import structlog

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.config import Config
from userstorage_operator.election.leader_election import LeaderElection, NoElection
from userstorage_operator.health import HealthChecks
from userstorage_operator.kube import crds
from userstorage_operator.kube.client import KubeClient, Observer
from userstorage_operator.kube.login import login
from userstorage_operator.kube.probe import ApiProbe
from userstorage_operator.kube.reviews import KubeReviews
from userstorage_operator.manager import Manager, background
from userstorage_operator.object_metrics import LABEL_VALUES
from userstorage_operator.readapi.fallback_reader import FallbackReader
from userstorage_operator.readapi.metrics_gate import MetricsGate
from userstorage_operator.readapi.routes import ReadApi
from userstorage_operator.redis_cache.redis_cache import RedisCache
from userstorage_operator.runtime.event_loop_monitor import EventLoopMonitor
from userstorage_operator.runtime.http import HttpServer, open_to_all
from userstorage_operator.runtime.metrics import CONTENT_TYPE, Metrics
from userstorage_operator.runtime.tracing import NOOP_TRACER, Tracer

log = structlog.get_logger(__name__)


class App:
    """The parts of one process, put together but not yet running."""

    def __init__(
        self,
        config: Config,
        client: KubeClient,
        fenced: KubeClient,
        leadership: LeaderElection | NoElection,
        metrics: Metrics,
        tracer: Tracer,
        set_leader: Callable[[bool], None],
    ) -> None:
        """Two clients: what every replica asks for, the lease among it, is never refused; what the leader does is fenced."""
        self._config = config
        self._client = client
        self._leadership = leadership
        self._fenced = fenced
        self._store = RedisCache(config.redis, config.scopes, metrics.serving)
        self._leading = Manager(config, fenced, metrics, self._store, tracer)
        self._metrics = metrics
        self._set_leader = set_leader
        self._probe = ApiProbe(client)
        self._loop = EventLoopMonitor()

    def render_metrics(self) -> bytes:
        """The metrics, with the gauges read at this moment."""
        self._metrics.gauges.loop_lag.set(self._loop.lag())
        self._metrics.gauges.api_answers.set(self._probe.silent is None)
        self._leadership.measure(self._metrics)
        if self._leadership.is_leader:
            self._leading.measure()
        return self._metrics.render()

    async def serve(self, stack: contextlib.AsyncExitStack, stop: asyncio.Event) -> None:
        """What every replica does, from now until the stack ends. Raises OSError for a taken port."""
        stack.push_async_callback(self._store.close)
        if self._config.http_port:
            reviews = KubeReviews(self._client, self._config.api_audiences)
            vitals = HealthChecks(self._probe, self._loop, self._leadership, self._leading, self._store)
            server = HttpServer(
                vitals.health,
                vitals.readiness,
                vitals.degrading,
                self._leadership.detail,
                self.render_metrics,
                CONTENT_TYPE,
                self._metrics.serving.http_answered,
                MetricsGate(reviews).refusal if self._config.metrics_auth else open_to_all,
            )
            self._metrics.serving.http_labels(server.mount("/v1", self._read_api(reviews).application()))
            stack.push_async_callback(server.stop)
            await server.start(self._config.http_port)
        start = await stack.enter_async_context(background(stop))
        start(self._probe.run(), "api-probe")
        start(self._loop.run(), "loop-watch")

    def _read_api(self, reviews: KubeReviews) -> ReadApi:
        """Answers for platform backends."""
        config, leading = self._config, self._leading
        directory = FallbackReader(leading.directory, leading.has_synced, self._store.reader(self._client))
        return ReadApi(directory, reviews, config.namespaces, version("userstorage-operator"))

    async def lead(self, stop: asyncio.Event) -> None:
        """What one replica at a time does: stand by, then watch and write until `stop`."""
        await crds.wait_established(self._probe, stop)
        if (term := await self._leadership.run(stop)) is None:
            return
        self._set_leader(True)
        try:
            await self._leading.run(stop, self._resign, term)
        finally:
            await self._resign()

    async def _resign(self) -> None:
        """Hand over, as soon as what is being written is written."""
        await self._leadership.resign(settled=await self._fenced.finish_writing())
        self._set_leader(False)


async def run(config: Config, stop: asyncio.Event, set_leader: Callable[[bool], None]) -> None:
    """Serve until SIGTERM, SIGINT or `stop`. `set_leader` is told whether this process is the one that writes.

    Raises OperatorError where there is no login or where a part of the operator ended by itself, OSError for a taken port.
    """
    _stop_on_signals(stop)
    metrics = Metrics(version("userstorage-operator"), LABEL_VALUES)
    async with contextlib.AsyncExitStack() as stack:
        tracer = _tracer(config)
        stack.push_async_callback(tracer.close)
        client = KubeClient(await login(), metrics)
        stack.push_async_callback(client.close)
        leadership = LeaderElection(config.lease_namespace, client) if config.leader_elect else NoElection()
        fenced = KubeClient(await login(), FanOutObserver(metrics, tracer), leadership.fence)
        stack.push_async_callback(fenced.close)
        app = App(config, client, fenced, leadership, metrics, tracer, set_leader)
        await app.serve(stack, stop)
        await app.lead(stop)
    log.info("stopped")


class FanOutObserver:
    """Who counts requests, and who traces them."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Satisfies Observer."""
        for observer in self._observers:
            observer.requested(verb, resource, code, seconds)


def _tracer(config: Config) -> Tracer:
    if not config.otlp_endpoint:
        return NOOP_TRACER
    try:
        from userstorage_operator.runtime.otel import OtelTracer  # noqa: PLC0415  # an extra, and 40 MB that few need
    except ImportError as error:
        raise OperatorError(f"--otlp-endpoint: needs userstorage-operator[otel] ({error})", "InvalidOption") from error
    return OtelTracer(config.otlp_endpoint, version("userstorage-operator"), socket.gethostname())


def _stop_on_signals(stop: asyncio.Event) -> None:
    """From the first moment on: as process 1 of a container we would not be ended by default. kopf takes over later."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
