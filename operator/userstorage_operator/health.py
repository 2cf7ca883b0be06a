"""What `/health` and `/ready` look at. Health fails only where a restart helps, so never for what is wrong elsewhere."""

from collections.abc import Mapping

from userstorage_operator.election.leader_election import LeaderElection, NoElection
from userstorage_operator.kube.probe import ApiProbe
from userstorage_operator.manager import Manager
from userstorage_operator.redis_cache.redis_cache import RedisCache
from userstorage_operator.runtime.event_loop_monitor import EventLoopMonitor
from userstorage_operator.runtime.http import Check

_WORKER_STALL = 45.0
"""Seconds after which a pass counts as frozen: far above the sum of its requests while the API server answers each look at
it within three seconds, and together with the period of a kubelet's probe below a minute.
"""
_WATCH_STALL = 120.0
"""Seconds: longer than the silence that a watch bears, its pause and its next try together."""
_NAMED = 5
"""Lists that are named; each namespace has some."""
_LOOP_LAG = 60.0
"""Seconds for which the event loop may be late before a restart is the better choice."""


class HealthChecks:
    """The checks of one process, by name. A process that stands by has nothing that could stand still."""

    def __init__(
        self,
        probe: ApiProbe,
        loop: EventLoopMonitor,
        leadership: LeaderElection | NoElection,
        leading: Manager,
        store: RedisCache,
    ) -> None:
        self._probe = probe
        self._loop = loop
        self._leadership = leadership
        self._leading = leading
        self._store = store

    @property
    def health(self) -> Mapping[str, Check]:
        """What only a restart can mend."""
        return {"loop": self._loop_lagging, "workers": self._workers_stalled, "watches": self._watches_stalled}

    @property
    def readiness(self) -> Mapping[str, Check]:
        """What keeps this process from doing its part. Standing by is doing one's part."""
        return {"apiServer": self._api_server_unreachable, "definitions": self._crds_missing, "lists": self._caches_not_synced}

    @property
    def degrading(self) -> Mapping[str, Check]:
        """What goes on all the same, though slower."""
        return {"watches": self._watches_failing, "redis": self._redis_degraded}

    async def _loop_lagging(self) -> str | None:
        late = self._loop.late_for()
        return f"the event loop has been late for {late:.0f} s" if late > _LOOP_LAG else None

    async def _workers_stalled(self) -> str | None:
        stuck = max(pool.stuck_for() for pool in self._leading.pools)
        if stuck > _WORKER_STALL and self._probe.answering_for() > _WORKER_STALL:
            return f"a pass has gone on for {stuck:.0f} s, or none has ended while work was waiting"
        return None

    async def _watches_stalled(self) -> str | None:
        stuck = {informer.resource.plural for informer in self._leading.informers if informer.stuck_for() > _WATCH_STALL}
        return (
            f"no longer watched: {', '.join(sorted(stuck))}" if stuck and self._probe.answering_for() > _WATCH_STALL else None
        )

    async def _api_server_unreachable(self) -> str | None:
        return self._probe.silent

    async def _crds_missing(self) -> str | None:
        return self._probe.missing

    async def _caches_not_synced(self) -> str | None:
        missing = sorted(self._leading.not_synced()) if self._leadership.is_leader else []
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        return f"not listed yet: {', '.join(missing[:_NAMED])}{more}" if missing else None

    async def _watches_failing(self) -> str | None:
        failing = sorted(self._leading.failing_watches())
        return f"not watched at the moment, only swept: {', '.join(failing)}" if failing else None

    async def _redis_degraded(self) -> str | None:
        return self._store.degradation
