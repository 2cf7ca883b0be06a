"""Whether the API server answers and knows our kinds: asked now and then, so that a probe of us asks nobody."""

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
    """The part of the API client that is needed here."""

    async def discover(self, group: str, version: str) -> set[str]:
        """Plural names that the API group serves. Raises a ClusterError."""


class ApiProbe:
    """What the last look found; `run` looks again and again."""

    def __init__(self, client: Discovery, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._reachable_since: float | None = None
        self.unreachable: str | None = "not asked yet"
        """Why the API server is of no use; None where it answers."""
        self.missing_crds: str | None = None
        """Which of our kinds it does not serve, in words; None where it serves them, or does not answer."""

    def reachable_for(self) -> float:
        """Seconds for which every look was answered; 0 where the last one was not."""
        return self._clock() - self._reachable_since if self._reachable_since is not None else 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(_PERIOD)

    async def once(self) -> None:
        """One look, which takes three seconds at most."""
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
        missing = sorted(_CRDS - served)
        self.unreachable, self.missing_crds = None, f"not served: {', '.join(missing)}" if missing else None
        if self._reachable_since is None:
            self._reachable_since = self._clock()

    def _set_unreachable(self, reason: str) -> None:
        self.unreachable, self.missing_crds, self._reachable_since = reason, None, None
