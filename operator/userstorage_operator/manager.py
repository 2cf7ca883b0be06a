"""What the one process that leads does: everything that watches and everything that writes."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import OperatorError
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.userstorage import Key
from userstorage_operator.config import Config, VolumeStats
from userstorage_operator.informers import kopf_watch
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.informer import Informer
from userstorage_operator.informers.reader import CacheReader
from userstorage_operator.informers.sweep import Sweep
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.event_recorder import EventRecorder
from userstorage_operator.kube.kubelets import Kubelets
from userstorage_operator.kube.login import credentials
from userstorage_operator.object_metrics import ObjectMetrics
from userstorage_operator.observed import backoff
from userstorage_operator.reconcile.class_reconciler import ClassReconciler
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache
from userstorage_operator.reconcile.volume_stats_collector import VolumeStatsCollector
from userstorage_operator.redis_cache.redis_cache import RedisCache
from userstorage_operator.runtime.metrics import Metrics
from userstorage_operator.runtime.tracing import Tracer
from userstorage_operator.runtime.worker import WorkerPool
from userstorage_operator.runtime.workqueue import WorkQueue

log = structlog.get_logger(__name__)

_CLASS_STATUS_DELAY = 1.0
"""Seconds for which changes among the users of a class are gathered before its status is written."""


def _now() -> datetime:
    return datetime.now(UTC)


class Manager:
    """All parts that watch and write, put together but not yet running. `client` is the fenced one."""

    def __init__(self, config: Config, client: KubeClient, metrics: Metrics, redis: RedisCache, tracer: Tracer) -> None:
        self._config = config
        self._client = client
        self._metrics = metrics
        self._redis = redis
        self._queue: WorkQueue[Key] = WorkQueue(backoff.delay, redis.on_requeue)
        self._class_queue: WorkQueue[str] = WorkQueue(backoff.delay)
        self.caches = Caches(self._queue.add, self._class_queue.add)
        self.caches.cache(USER_STORAGES).add_event_handler(lambda key, _: redis.changed(Key(*key)))
        self._rollouts = RolloutTracker(self._queue.add, lambda name: self._class_queue.add_after(name, _CLASS_STATUS_DELAY))
        self._sweep = Sweep(client, self.caches, config.scopes, self._queue.add_unless_backing_off, metrics)
        self._recorder = EventRecorder(client, metrics, _now)
        self._volume_stats = VolumeStatsCache() if config.volume_stats is not VolumeStats.OFF else None
        reconciler = Reconciler(client, self.caches, self._rollouts, self._recorder, _now, self._volume_stats)
        self._workers = WorkerPool(self._queue, reconciler.reconcile, metrics.reconciled, tracer, names.KIND)
        classes = ClassReconciler(client, self.caches, self._rollouts, self._recorder, _now)
        self._class_workers = WorkerPool(
            self._class_queue, classes.reconcile, metrics.class_reconciled, tracer, names.CLASS_KIND
        )
        self._kopf_watches = {
            USER_STORAGES: WatchLiveness([USER_STORAGES.path(scope) for scope in config.scopes]),
            USER_STORAGE_CLASSES: WatchLiveness([USER_STORAGE_CLASSES.path()]),
        }
        self.reader = CacheReader(self.caches, self._kopf_watches[USER_STORAGES])
        self._informers = [
            Informer(client, kind.resource, scope, names.CHILD_SELECTOR, self.caches.cache(kind.resource))
            for kind in Kind
            for scope in config.scopes
        ] + [Informer(client, STORAGE_CLASSES, None, "", self.caches.cache(STORAGE_CLASSES))]
        self._object_metrics = ObjectMetrics(metrics, self.caches, self._rollouts, self._volume_stats, _now)

    @property
    def worker_pools(self) -> tuple[WorkerPool[Key], WorkerPool[str]]:
        """All workers."""
        return self._workers, self._class_workers

    @property
    def informers(self) -> Sequence[Informer]:
        """All watches of children."""
        return self._informers

    def failing_watches(self) -> set[str]:
        """The resources of which the last try of some watch failed."""
        children = {informer.resource for informer in self._informers if informer.failing}
        own = {resource for resource, watch in self._kopf_watches.items() if watch.failing}
        return {resource.plural for resource in children | own}

    def has_synced(self) -> bool:
        """Whether the first lists are complete: before that nothing is decided."""
        return next(self.not_synced(), None) is None

    def not_synced(self) -> Iterator[str]:
        """Those of the first lists that are not complete, for people."""
        return self.caches.not_synced(self._config.scopes)

    def update_gauges(self) -> None:
        """Read the gauges at this moment."""
        gauges = self._metrics.gauges
        gauges.queue_depth.set(len(self._queue))
        gauges.queue_oldest.set(self._queue.oldest_wait())
        for informer in self._informers:
            gauges.watch_silence.labels(informer.resource.plural).set(informer.silent_for())
        for resource, watch in self._kopf_watches.items():
            gauges.watch_silence.labels(resource.plural).set(watch.age())
        self._object_metrics.collect()

    async def run(self, stop: asyncio.Event, resign: Callable[[], Awaitable[None]], term: int) -> None:
        """Until SIGTERM, SIGINT or `stop`; `resign` is called early in the end, and may not be where something fails. `term`
        grows with every change of the leader.

        Raises OperatorError where a part of it ended by itself.
        """
        namespaces = self._config.namespaces
        async with background(stop) as start:
            start(self._sweep.run(self._config.sweep_period), "sweep")
            start(self._recorder.run(), "events")
            for informer in self._informers:
                start(informer.run(), f"informer-{informer.resource.plural}")
            while not self.has_synced() and not stop.is_set():  # noqa: ASYNC110  # the first lists, in any order
                await asyncio.sleep(0.05)
            if stop.is_set():
                return
            # What was listed has no cycles, so nothing is lost: a full garbage collection that looked at all of it would hold the
            # event loop for 50 ms or more with a thousand users, and ten times that with ten thousand.
            gc.freeze()
            log.info("started", objects=len(self.caches.keys()), namespaces=list(namespaces) or "all")
            self._rollouts.expect(self.caches.keys())
            for part, name in await self._redis.lead(self.caches, self._queue, backoff.delay, term):
                start(part, name)
            if self._volume_stats is not None:
                start(self._volume_stats_collector(self._volume_stats).run(), "volume-looks")
            if not namespaces:  # who sees only some of the users of a class cannot count them
                start(self._class_workers.work(), "class-worker")
            for number in range(self._config.workers):
                start(self._workers.work(), f"worker-{number}")
            caches = {resource: self.caches.cache(resource) for resource in (USER_STORAGES, USER_STORAGE_CLASSES)}
            await kopf_watch.run(credentials, caches, namespaces, self._kopf_watches.values(), stop, resign)

    def _volume_stats_collector(self, cache: VolumeStatsCache) -> VolumeStatsCollector:
        verify = self._config.volume_stats is VolumeStats.VERIFIED
        kubelets = Kubelets(self._client, self._config.lease_namespace, verify=verify)
        return VolumeStatsCollector(
            kubelets, self.caches, self.caches.cache(Kind.POD.resource).values, cache, self._queue.add, self._metrics
        )


@contextlib.asynccontextmanager
async def background(stop: asyncio.Event) -> AsyncIterator[Callable[[Coroutine[Any, Any, None], str], None]]:
    """Tasks that run for ever, ended with the context. One that ends by itself is a fault: the process stops, since
    a restart is better than an operator that lacks a part. Raises OperatorError then.
    """
    tasks: list[asyncio.Task[None]] = []
    faults: list[str] = []

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            faults.append(f"{task.get_name()} ended: {task.exception()!r}")
            stop.set()

    def start(coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(ended)
        tasks.append(task)

    try:
        yield start
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if faults:
        raise OperatorError("; ".join(faults))
