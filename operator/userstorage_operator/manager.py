"""The manager of a replica: keeps the watch caches up to date, and reconciles while the replica leads.

A replica that waits for the lease has caches as warm as the leader's, as with controller-runtime: a take-over need not list.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from operator import attrgetter
from typing import Any

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.userstorage import Key
from userstorage_operator.background import BackgroundTasks, background
from userstorage_operator.config import Config, VolumeStats
from userstorage_operator.informers import kopf_watch
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.crowds import requeue_crowds
from userstorage_operator.informers.informer import Informer, longest_silences
from userstorage_operator.informers.kopf_lists import KopfLists
from userstorage_operator.informers.object_cache import ObjectCache
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
from userstorage_operator.reconcile.dry_runs import DryRuns
from userstorage_operator.reconcile.priority import turn
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
"""Seconds for which changes of the UserStorages of a class are collected before the status of the class is written."""


class Manager:
    """All parts of a replica that watch and write, connected but not yet running. `client` must have a fence."""

    def __init__(self, config: Config, client: KubeClient, metrics: Metrics, redis: RedisCache, tracer: Tracer) -> None:
        self._config = config
        self._client = client
        self._metrics = metrics
        self._redis = redis
        self._queue: WorkQueue[Key] = WorkQueue(backoff.delay, redis.on_requeue, attrgetter("namespace"))
        self._class_queue: WorkQueue[str] = WorkQueue(backoff.delay)
        self.caches = Caches(self._enqueue, self._enqueue_class, self._resync)
        self._term: asyncio.Future[int] = asyncio.Future()
        """The term of this leader, once this process is elected."""
        self._reconciles = False
        """Whether events queue what they concern. No worker runs before; then all is queued."""
        self.caches.cache(USER_STORAGES).add_event_handler(lambda key, _: redis.changed(Key(*key)))
        self.caches.cache(USER_STORAGES).add_restore_handler(redis.refill)
        self._rollouts = RolloutTracker(self._queue.add, lambda name: self._class_queue.add_after(name, _CLASS_STATUS_DELAY))
        self._recorder = EventRecorder(client, metrics, client.now)
        self._volume_stats = VolumeStatsCache() if config.volume_stats is not VolumeStats.OFF else None
        self._object_metrics = ObjectMetrics(metrics, self.caches, self._rollouts, self._volume_stats, client.now)
        self._sweep = Sweep(client, self.caches, config.scopes, self._resync_unless_backing_off, metrics)
        self._informers = [*self._child_informers(), Informer(client, STORAGE_CLASSES, None, "", self._cache(STORAGE_CLASSES))]
        self._kopf_watches = {
            USER_STORAGES: WatchLiveness([USER_STORAGES.path(scope) for scope in config.scopes]),
            USER_STORAGE_CLASSES: WatchLiveness([USER_STORAGE_CLASSES.path()]),
        }
        self._kopf_lists = [
            KopfLists(client, USER_STORAGES, config.scopes, self._cache(USER_STORAGES)),
            KopfLists(client, USER_STORAGE_CLASSES, (None,), self._cache(USER_STORAGE_CLASSES)),
        ]
        self.reader = CacheReader(self.caches, self._kopf_watches[USER_STORAGES])
        self._workers = self._storage_workers(tracer)
        self._class_workers = self._storage_class_workers(tracer)

    def _enqueue(self, key: Key) -> None:
        """Queue a UserStorage that an event concerns."""
        if not self._reconciles:
            return
        priority, delay = turn(key, self.caches, resync=False)
        if delay:
            self._queue.add_after(key, delay, priority)
        else:
            self._queue.add(key, priority)

    def _enqueue_class(self, name: str) -> None:
        if self._reconciles:
            self._class_queue.add(name)

    def _resync(self, key: Key) -> None:
        if self._reconciles:
            self._queue.add(key, turn(key, self.caches, resync=True).priority)

    def _resync_unless_backing_off(self, key: Key) -> None:
        self._queue.add_unless_backing_off(key, turn(key, self.caches, resync=True).priority)

    def _child_informers(self) -> Iterator[Informer]:
        for kind in Kind:
            for scope in self._config.scopes:
                yield Informer(self._client, kind.resource, scope, names.CHILD_SELECTOR, self._cache(kind.resource))
        for scope in self._config.scopes:
            yield Informer(self._client, Kind.PVC.resource, scope, names.LABEL_SHAREABLE, self.caches.shared_claims)

    def _storage_workers(self, tracer: Tracer) -> WorkerPool[Key]:
        reconciler = Reconciler(self._client, self.caches, self._rollouts, self._recorder, self._client.now, self._volume_stats)
        return WorkerPool(self._queue, reconciler.reconcile, self._metrics.reconciled, tracer, names.KIND)

    def _storage_class_workers(self, tracer: Tracer) -> WorkerPool[str]:
        dry_runs = DryRuns(self._client, self._config.lease_namespace, self._client.now)
        reconciler = ClassReconciler(self._client, self.caches, self._rollouts, self._recorder, self._client.now, dry_runs)
        return WorkerPool(self._class_queue, reconciler.reconcile, self._metrics.class_reconciled, tracer, names.CLASS_KIND)

    def _cache(self, resource: Resource) -> ObjectCache:
        return self.caches.cache(resource)

    @property
    def worker_pools(self) -> tuple[WorkerPool[Key], WorkerPool[str]]:
        """The worker pool of UserStorages and the worker pool of classes."""
        return self._workers, self._class_workers

    @property
    def informers(self) -> Sequence[Informer]:
        """All watches except those of the operator's own kinds, which kopf runs."""
        return self._informers

    def failing_watches(self) -> set[str]:
        """Return the plural names of the resources with a watch whose last try failed."""
        children = {informer.resource for informer in self._informers if informer.failing}
        own = {resource for resource, watch in self._kopf_watches.items() if watch.failing}
        return {resource.plural for resource in children | own}

    def is_leading(self) -> bool:
        """Whether this process was elected, and the first lists of all its caches are complete. No reconcile starts earlier."""
        return self._term.done() and self._has_synced()

    def _has_synced(self) -> bool:
        return next(self.not_synced(), None) is None

    def not_synced(self) -> Iterator[str]:
        """Yield a text such as `pods in team-b` for each cache whose first list is not complete."""
        return self.caches.not_synced(self._config.scopes)

    def update_gauges(self) -> None:
        """Set the gauges of the work queue, the watches and the objects."""
        gauges = self._metrics.gauges
        gauges.queue_depth.set(len(self._queue))
        gauges.queue_oldest.set(self._queue.oldest_wait())
        children = ((informer.resource, informer.silent_for()) for informer in self._informers)
        own = ((resource, watch.age()) for resource, watch in self._kopf_watches.items())
        for plural, seconds in longest_silences((*children, *own)).items():
            gauges.watch_silence.labels(plural).set(seconds)
        self._object_metrics.collect()

    async def run(
        self,
        stop: asyncio.Event,
        elect: Callable[[Callable[[int], None]], Coroutine[Any, Any, None]],
        resign: Callable[[], Awaitable[None]],
    ) -> None:
        """Run until SIGTERM, SIGINT or `stop`. `elect(on_elected)` takes part in the election until cancelled, and calls
        `on_elected(term)` when this process leads; the term grows with every change of the leader. `resign` is called early in a
        normal shutdown; after a failure it is not always called.

        Raises OperatorError if a background task ended by itself.
        """
        async with background(stop) as tasks:
            self._start_caches(tasks)
            tasks.start(self._reconcile(tasks), "reconcile")
            tasks.start(elect(self._term.set_result), "election")
            await self._run_kopf(stop, tasks, resign)

    def _start_caches(self, tasks: BackgroundTasks) -> None:
        for lists in self._kopf_lists:
            tasks.start(lists.run(), "kopf-lists")
        tasks.start(requeue_crowds(self.caches.take_crowds, self._resync), "crowds")
        for informer in self._informers:
            tasks.start(informer.run(), f"informer-{informer.resource.plural}")

    async def _reconcile(self, tasks: BackgroundTasks) -> None:
        """Wait until this process leads and its caches are complete. Then start the workers, and sweep until cancelled."""
        term = await self._term
        while not self._has_synced():  # noqa: ASYNC110  # the first lists arrive in any order
            await asyncio.sleep(0.05)
        # The caches keep JSON, which no garbage collection traverses, but their indexes and the modules are objects without
        # cycles: excluding them loses no memory, and a full collection blocks the event loop for less time.
        gc.freeze()
        log.info("started", objects=len(self.caches.keys()), namespaces=list(self._config.namespaces) or "all")
        self._rollouts.expect(self.caches.keys())
        for task, name in await self._redis.lead(self.caches, self._queue, backoff.delay, term):
            tasks.start(task, name)
        self._reconciles = True
        self._start_workers(tasks)
        self.caches.enqueue_classes_and_policies()
        await self._sweep.run(self._config.sweep_period)

    def _start_workers(self, tasks: BackgroundTasks) -> None:
        tasks.start(self._recorder.run(), "events")
        if self._volume_stats is not None:
            tasks.start(self._volume_stats_collector(self._volume_stats).run(), "volume-stats")
        if not self._config.namespaces:  # an operator of some namespaces cannot count the users of a class
            tasks.start(self._class_workers.work(), "class-worker")
        for number in range(self._config.workers):
            tasks.start(self._workers.work(), f"worker-{number}")

    async def _run_kopf(self, stop: asyncio.Event, tasks: BackgroundTasks, resign: Callable[[], Awaitable[None]]) -> None:
        """Watch UserStorages and UserStorageClasses with kopf until the operator stops."""
        caches = {resource: self._cache(resource) for resource in self._kopf_watches}
        middlewares = [
            *(watch.middleware for watch in self._kopf_watches.values()),
            *(lists.middleware for lists in self._kopf_lists),
        ]

        async def stop_reconciling() -> None:
            for queue in (self._queue, self._class_queue):
                queue.shut_down()
            await resign()
            await tasks.cancel()  # otherwise kopf waits five seconds for those that were started after it

        await kopf_watch.run(credentials, caches, self._config.namespaces, middlewares, stop, stop_reconciling)

    def _volume_stats_collector(self, cache: VolumeStatsCache) -> VolumeStatsCollector:
        verify = self._config.volume_stats is VolumeStats.VERIFIED
        kubelets = Kubelets(self._client, self._config.lease_namespace, verify=verify)
        return VolumeStatsCollector(
            kubelets, self.caches, self._cache(Kind.POD.resource).values, cache, self._resync, self._metrics
        )
