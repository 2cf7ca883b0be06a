"""Periodic probe of the API server: whether it answers and serves the CRDs. The checks behind `/health` and `/ready` use the
result of the last probe.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError, NotFound
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES

_PERIOD = 2.0
_TIMEOUT = 3.0
_CRDS = frozenset({USER_STORAGES.plural, USER_STORAGE_CLASSES.plural})


class Discovery(Protocol):
    """The part of KubeClient that ApiProbe needs."""

    async def discover(self, group: str, version: str) -> set[str]:
        """Return the plural names of the resources that the API server serves in this API group and version. Raises a
        ClusterError.
        """


class ApiProbe:
    """The result of the last probe of the API server. `run` probes periodically."""

    def __init__(self, client: Discovery, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._reachable_since: float | None = None
        self.unreachable: str | None = "not probed yet"
        """Why the API server did not answer the last probe; None if it did."""
        self.missing_crds: str | None = None
        """Message that names the CRDs that the API server does not serve. None if it serves both, or did not answer the last
        probe.
        """
        self.reached = False
        """Whether the API server has ever answered this process."""

    def reachable_for(self) -> float:
        """Return for how many seconds the API server has answered every probe; 0 if it did not answer the last one."""
        return self._clock() - self._reachable_since if self._reachable_since is not None else 0.0

    async def run(self) -> None:
        """Probe the API server every two seconds until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(_PERIOD)

    async def once(self) -> None:
        """Probe the API server once, for three seconds at most, and store the result in the attributes."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                served = await self._client.discover(names.GROUP, names.VERSION)
        except NotFound:
            served = set()
        except ClusterError as error:
            self._set_unreachable(error.message)
            return
        except TimeoutError:
            self._set_unreachable(f"no answer from the API server within {_TIMEOUT:g} s")
            return
        self.reached, missing = True, sorted(_CRDS - served)
        self.unreachable, self.missing_crds = None, f"not served: {', '.join(missing)}" if missing else None
        if self._reachable_since is None:
            self._reachable_since = self._clock()

    def _set_unreachable(self, reason: str) -> None:
        self.unreachable, self.missing_crds, self._reachable_since = reason, None, None
