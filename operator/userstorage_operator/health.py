"""The checks behind `/health` and `/ready`. `/health` fails only if a restart helps, never for a fault outside of this process."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from userstorage_operator.api.resources import Resource
from userstorage_operator.runtime.http import Check

_WORKER_STALL = 45.0
"""Seconds after which a reconcile counts as stalled. A healthy one is far shorter, even if each of its requests takes three
seconds, the time limit of the probe of the API server. Together with the period of a kubelet's probe, these seconds are less
than a minute.
"""
_WATCH_STALL = 120.0
"""Seconds without progress after which a watch counts as stalled. It is longer than these three together: the silence after
which a watch is closed, the pause after it, and the next try.
"""
_NAMED_MAX = 5
"""Maximum number of caches that the answer names. There is one for each resource and namespace."""
_LOOP_LAG = 60.0
"""Seconds for which the event loop may be late before a restart is the better choice."""


class Probe(Protocol):
    """The state of the API server (`kube.probe.ApiProbe`)."""

    @property
    def unreachable(self) -> str | None:
        """Why the API server does not answer; None if it does."""

    @property
    def reached(self) -> bool:
        """Whether it has ever answered this process."""

    @property
    def missing_crds(self) -> str | None:
        """Message with the CRDs that the API server does not serve; None if it serves all of them, or does not answer."""

    def reachable_for(self) -> float:
        """Return for how many seconds every probe has been answered; 0 if the last one was not."""


class LoopMonitor(Protocol):
    """The lag of the event loop (`runtime.event_loop_monitor.EventLoopMonitor`)."""

    def late_for(self) -> float:
        """Return the seconds since a timer last fired in time; 0 if the last one did."""


class Election(Protocol):
    """The leader election (`election.leader_election`)."""

    @property
    def is_leader(self) -> bool:
        """Whether this process was elected."""


class Workers(Protocol):
    """A pool of workers (`runtime.worker.WorkerPool`)."""

    def stuck_for(self) -> float:
        """Return the seconds without progress."""


class Watch(Protocol):
    """A watch (`informers.informer.Informer`)."""

    @property
    def resource(self) -> Resource:
        """The watched resource."""

    def stuck_for(self) -> float:
        """Return the seconds without progress."""


class Controllers(Protocol):
    """The caches and workers of the leader (`manager.Manager`)."""

    @property
    def worker_pools(self) -> Sequence[Workers]:
        """All pools of workers."""

    @property
    def informers(self) -> Sequence[Watch]:
        """All watches except those of the operator's own kinds, which kopf runs."""

    def failing_watches(self) -> Collection[str]:
        """Return the plurals of the resources with a watch whose last try failed."""

    def not_synced(self) -> Iterable[str]:
        """Return a text such as `pods in team-b` for each cache whose first list is not complete."""


class Redis(Protocol):
    """The cache in Redis (`redis_cache.redis_cache.RedisCache`)."""

    async def has_mirror(self) -> bool:
        """Whether Redis answers, and has the state of all UserStorages."""

    @property
    def degradation(self) -> str | None:
        """Why Redis is not used at the moment; None if it is."""


class HealthChecks:
    """The checks of one process, by name. A standby runs no watches and no workers, so none of them can stall."""

    def __init__(self, probe: Probe, loop: LoopMonitor, election: Election, controllers: Controllers, redis: Redis) -> None:
        self._probe = probe
        self._loop = loop
        self._election = election
        self._controllers = controllers
        self._redis = redis

    @property
    def health(self) -> Mapping[str, Check]:
        """Checks that fail only if a restart helps."""
        return {"loop": self._loop_lagging, "workers": self._workers_stalled, "watches": self._watches_stalled}

    @property
    def readiness(self) -> Mapping[str, Check]:
        """Checks that fail while this process cannot do its work. A standby that can answer the read API is ready."""
        return {"apiServer": self._api_server_needed, "crds": self._crds_missing, "caches": self._caches_not_synced}

    @property
    def degraded(self) -> Mapping[str, Check]:
        """Checks for faults that slow the operator down but do not stop it."""
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
        """Whether this process can answer without the API server: not if it leads, nor if it has not checked any caller yet."""
        return not self._election.is_leader and self._probe.reached and await self._redis.has_mirror()

    async def _crds_missing(self) -> str | None:
        return self._probe.missing_crds

    async def _caches_not_synced(self) -> str | None:
        missing = sorted(self._controllers.not_synced()) if self._election.is_leader else []
        more = f" and {len(missing) - _NAMED_MAX} more" if len(missing) > _NAMED_MAX else ""
        return f"not synced: {', '.join(missing[:_NAMED_MAX])}{more}" if missing else None

    async def _watches_failing(self) -> str | None:
        failing = sorted(self._controllers.failing_watches())
        return f"watches fail, so only sweeps find changes: {', '.join(failing)}" if failing else None

    async def _redis_degraded(self) -> str | None:
        return self._redis.degradation
