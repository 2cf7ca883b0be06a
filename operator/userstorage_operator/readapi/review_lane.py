"""How many reviews may be requested at a time, and when none is: a flood of invented tokens must not become a flood of reviews."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from userstorage_operator.api.errors import ClusterError, Unavailable

V = TypeVar("V")

TIMEOUT = 3.0
"""Seconds to wait for the API server, and before that for a slot."""
PAUSE = 1.0
"""Seconds after a failure in which the failed review is not requested again; after several in a row, no review is."""
CONCURRENCY = 8
"""Reviews of a lane in flight at the same time."""
WAITING = 128
"""Reviews that are in flight or wait for a slot, shared equally among their sources. At a tenth of a second each, the last one
waits for less than TIMEOUT.
"""
WAITING_OF_SOURCE = 32
"""Of these, the reviews for one source, even if it is the only one."""
_FAILURES = 3
"""Failures in a row from which on the API server counts as unavailable. A single one may be due to the token."""


class NotAsked(Unavailable):
    """No review was requested: too many are waiting, or the last ones failed."""


class TooMany(NotAsked):
    """Too many are waiting."""

    def __init__(self) -> None:
        super().__init__(0, "too many tokens and permissions are waiting to be checked")


class ReviewLane:
    """Reviews that share slots and a pause. Known callers have a lane of their own, in which no other caller can wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns seconds of a monotonic clock."""
        self._clock = clock
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._waiting: Counter[Hashable] = Counter()
        self._failures = 0
        self._failure = NotAsked(0, "")
        self._failed_at = 0.0

    @property
    def failing(self) -> bool:
        """Whether the API server counts as unavailable."""
        return self._failures >= _FAILURES

    @property
    def pausing(self) -> bool:
        """Whether no review is requested at the moment, since the last ones failed."""
        return self.failing and self._clock() - self._failed_at < PAUSE

    async def run(self, source: Hashable, ask: Callable[[], Awaitable[V]]) -> V:
        """Return the result of `ask`. Raises what it raises, Unavailable if it takes too long, or NotAsked.

        `source` is where the question comes from: one source cannot take all places.
        """
        self._raise_if_pausing()
        sources = len(self._waiting.keys() | {source})
        if self._waiting[source] >= min(WAITING_OF_SOURCE, max(1, WAITING // sources)):
            raise TooMany
        self._waiting[source] += 1
        try:
            await self._acquire_slot()
            try:
                self._raise_if_pausing()
                return await self._ask(ask)
            finally:
                self._slots.release()
        finally:
            self._waiting[source] -= 1
            if not self._waiting[source]:
                del self._waiting[source]

    async def _acquire_slot(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._slots.acquire()
        except TimeoutError:
            raise TooMany from None

    async def _ask(self, ask: Callable[[], Awaitable[V]]) -> V:
        try:
            async with asyncio.timeout(TIMEOUT):
                value = await ask()
        except TimeoutError:
            failure = Unavailable(0, f"no answer from the API server within {TIMEOUT:g} s")
            self._failed(failure)
            raise failure from None
        except Unavailable as error:
            self._failed(error)
            raise
        except ClusterError:
            self._failures = 0  # a refusal is an answer
            raise
        self._failures = 0
        return value

    def _failed(self, error: Unavailable) -> None:
        self._failures += 1
        self._failed_at = self._clock()
        self._failure = NotAsked(error.status, error.message, retry_after=error.retry_after)

    def _raise_if_pausing(self) -> None:
        if self.pausing:
            raise self._failure
