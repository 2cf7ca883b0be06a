"""The checks behind `/health` and `/ready`. `/health` fails only if a restart helps, never for a fault outside of this process."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from userstorage_operator.api.resources import Resource
from userstorage_operator.runtime.http import Check

_WORKER_STALL = 45.0
"""Seconds after which a running reconcile counts as stalled. A healthy reconcile is far shorter, even if each of its requests
takes three seconds, the time limit of the probe of the API server. Together with the period of a kubelet's probe, these seconds
are less than a minute.
"""
_WATCH_STALL = 120.0
"""Seconds without progress after which a watch counts as stalled. It is longer than these three together: the silence after
which a watch is closed, the pause after it, and the next try.
"""
_NAMED_MAX = 5
"""Maximum number of caches that the response of `/ready` names. There is one cache for each resource and namespace."""
_LOOP_LAG = 60.0
"""Seconds for which the event loop may have been late before a restart of the process is the better choice."""


class Probe(Protocol):
    """What the last probe found out about the API server (implemented by `kube.probe.ApiProbe`)."""

    @property
    def unreachable(self) -> str | None:
        """Why the API server did not answer the last probe; None if it did."""

    @property
    def reached(self) -> bool:
        """Whether the API server has ever answered this process."""

    @property
    def missing_crds(self) -> str | None:
        """Message that names the CRDs that the API server does not serve. None if it serves both, or did not answer the last
        probe.
        """

    def reachable_for(self) -> float:
        """Return for how many seconds the API server has answered every probe; 0 if it did not answer the last one."""


class LoopMonitor(Protocol):
    """Measures the lag of the event loop (implemented by `runtime.event_loop_monitor.EventLoopMonitor`)."""

    def late_for(self) -> float:
        """Return the seconds since the event loop last ran a timer on time; 0 if no timer is late."""


class Election(Protocol):
    """The leader election (implemented by the classes of `election.leader_election`)."""

    @property
    def is_leader(self) -> bool:
        """Whether this process was elected and has not resigned."""


class Workers(Protocol):
    """The workers of one work queue (implemented by `runtime.worker.WorkerPool`)."""

    def stuck_for(self) -> float:
        """Return for how many seconds the workers have made no progress."""


class Watch(Protocol):
    """The watch of one resource (implemented by `informers.informer.Informer`)."""

    @property
    def resource(self) -> Resource:
        """The resource that is watched."""

    def stuck_for(self) -> float:
        """Return for how many seconds the watch has made no progress."""


class Controllers(Protocol):
    """The caches and workers of a replica (implemented by `manager.Manager`)."""

    @property
    def worker_pools(self) -> Sequence[Workers]:
        """All worker pools: that of UserStorages and that of classes."""

    @property
    def informers(self) -> Sequence[Watch]:
        """All watches except those of the operator's own kinds, which kopf runs."""

    def failing_watches(self) -> Collection[str]:
        """Return the plural names of the resources with a watch whose last try failed."""

    def not_synced(self) -> Iterable[str]:
        """Return a text such as `pods in team-b` for each cache whose first list is not complete."""


class Redis(Protocol):
    """The Redis cache (implemented by `redis_cache.redis_cache.RedisCache`)."""

    async def has_mirror(self) -> bool:
        """Whether Redis answers, and its mirror has the state of all UserStorages."""

    @property
    def degradation(self) -> str | None:
        """Message that Redis fails; None if Redis works or is not configured."""


class HealthChecks:
    """The checks of one process. Only the leader has reconciles that can stall; every replica watches."""

    def __init__(self, probe: Probe, loop: LoopMonitor, election: Election, controllers: Controllers, redis: Redis) -> None:
        self._probe = probe
        self._loop = loop
        self._election = election
        self._controllers = controllers
        self._redis = redis

    @property
    def health(self) -> Mapping[str, Check]:
        """Name -> check of `/health`. These checks fail only if a restart helps."""
        return {"loop": self._loop_lagging, "workers": self._workers_stalled, "watches": self._watches_stalled}

    @property
    def readiness(self) -> Mapping[str, Check]:
        """Name -> check of `/ready`. These checks fail while this process cannot do its work. A standby is ready if it can answer
        the read API, and could take over without a list.
        """
        return {"apiServer": self._api_server_needed, "crds": self._crds_missing, "caches": self._caches_not_synced}

    @property
    def degraded(self) -> Mapping[str, Check]:
        """Name -> check for a fault that slows the operator down but does not stop it. `/ready` reports such a fault and does
        not fail.
        """
        return {
            "apiServer": self._api_server_unreachable,
            "watches": self._watches_failing,
            "redis": self._redis_degraded,
        }

    async def _loop_lagging(self) -> str | None:
        late = self._loop.late_for()
        return f"the event loop has been late for {late:.0f} s" if late > _LOOP_LAG else None

    async def _workers_stalled(self) -> str | None:
        stuck = max(pool.stuck_for() for pool in self._controllers.worker_pools)
        if stuck > _WORKER_STALL and self._probe.reachable_for() > _WORKER_STALL:
            return f"a reconcile has been running for {stuck:.0f} s, or none has ended while keys were waiting"
        return None

    async def _watches_stalled(self) -> str | None:
        stalled = {watch.resource.plural for watch in self._controllers.informers if watch.stuck_for() > _WATCH_STALL}
        if stalled and self._probe.reachable_for() > _WATCH_STALL:
            return f"watches without progress: {', '.join(sorted(stalled))}"
        return None

    async def _api_server_needed(self) -> str | None:
        if self._probe.unreachable is None or await self._answers_from_redis():
            return None
        return self._probe.unreachable

    async def _api_server_unreachable(self) -> str | None:
        if self._probe.unreachable is None or not await self._answers_from_redis():
            return None
        return f"{self._probe.unreachable}; the read API answers from Redis"

    async def _answers_from_redis(self) -> bool:
        """Whether this process can answer the read API without the API server. It cannot if it leads, nor if the API server has
        never answered it, because then no caller has been checked yet.
        """
        return not self._election.is_leader and self._probe.reached and await self._redis.has_mirror()

    async def _crds_missing(self) -> str | None:
        return self._probe.missing_crds

    async def _caches_not_synced(self) -> str | None:
        missing = sorted(self._controllers.not_synced())
        more = f" and {len(missing) - _NAMED_MAX} more" if len(missing) > _NAMED_MAX else ""
        return f"not synced: {', '.join(missing[:_NAMED_MAX])}{more}" if missing else None

    async def _watches_failing(self) -> str | None:
        failing = sorted(self._controllers.failing_watches())
        return f"watches fail, so only sweeps find changes: {', '.join(failing)}" if failing else None

    async def _redis_degraded(self) -> str | None:
        return self._redis.degradation
