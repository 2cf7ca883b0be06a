"""What `/health` and `/ready` look at. Health fails only where a restart helps, so never for what is wrong elsewhere."""

from collections.abc import Mapping

from userstorage_operator.election.leader_election import Alone, Elected
from userstorage_operator.kube.probe import ApiProbe
from userstorage_operator.manager import Leading
from userstorage_operator.redis_cache.redis_cache import SharedStore
from userstorage_operator.runtime.event_loop_monitor import LoopWatch
from userstorage_operator.runtime.http import Check

_FROZEN = 45.0
"""Seconds after which a pass counts as frozen: far above the sum of its requests while the API server answers each look at
it within three seconds, and together with the period of a kubelet's probe below a minute.
"""
_BLIND = 120.0
"""Seconds: longer than the silence that a watch bears, its pause and its next try together."""
_NAMED = 5
"""Lists that are named; each namespace has some."""
_CRAWLING = 60.0
"""Seconds for which the event loop may be late before a restart is the better choice."""


class Vitals:
    """The checks of one process, by name. A process that stands by has nothing that could stand still."""

    def __init__(
        self, probe: ApiProbe, loop: LoopWatch, leadership: Elected | Alone, leading: Leading, store: SharedStore
    ) -> None:
        self._probe = probe
        self._loop = loop
        self._leadership = leadership
        self._leading = leading
        self._store = store

    @property
    def health(self) -> Mapping[str, Check]:
        """What only a restart can mend."""
        return {"loop": self._crawls, "workers": self._frozen, "watches": self._blind}

    @property
    def readiness(self) -> Mapping[str, Check]:
        """What keeps this process from doing its part. Standing by is doing one's part."""
        return {"apiServer": self._silent, "definitions": self._undefined, "lists": self._unlisted}

    @property
    def degrading(self) -> Mapping[str, Check]:
        """What goes on all the same, though slower."""
        return {"watches": self._failing, "redis": self._alone}

    async def _crawls(self) -> str | None:
        late = self._loop.late_for()
        return f"the event loop has been late for {late:.0f} s" if late > _CRAWLING else None

    async def _frozen(self) -> str | None:
        stuck = max(pool.stuck_for() for pool in self._leading.pools)
        if stuck > _FROZEN and self._probe.answering_for() > _FROZEN:
            return f"a pass has gone on for {stuck:.0f} s, or none has ended while work was waiting"
        return None

    async def _blind(self) -> str | None:
        stuck = {informer.resource.plural for informer in self._leading.informers if informer.stuck_for() > _BLIND}
        return f"no longer watched: {', '.join(sorted(stuck))}" if stuck and self._probe.answering_for() > _BLIND else None

    async def _silent(self) -> str | None:
        return self._probe.silent

    async def _undefined(self) -> str | None:
        return self._probe.missing

    async def _unlisted(self) -> str | None:
        missing = sorted(self._leading.unlisted()) if self._leadership.leads else []
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        return f"not listed yet: {', '.join(missing[:_NAMED])}{more}" if missing else None

    async def _failing(self) -> str | None:
        failing = sorted(self._leading.unwatched())
        return f"not watched at the moment, only swept: {', '.join(failing)}" if failing else None

    async def _alone(self) -> str | None:
        return self._store.trouble
