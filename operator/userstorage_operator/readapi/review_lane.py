"""Limits how many reviews are requested at the same time, and requests none while the API server fails: a flood of invented
tokens must not become a flood of reviews.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar

from userstorage_operator.api.errors import ClusterError, Unavailable

V = TypeVar("V")

TIMEOUT = 3.0
"""Maximum seconds to wait for the API server's answer; also the maximum seconds to wait before, while CONCURRENCY other reviews
are in flight.
"""
PAUSE = 1.0
"""Seconds after a failed review in which that review is not requested again. After several failures in a row, no review is
requested for as long.
"""
CONCURRENCY = 8
"""Maximum number of reviews of a lane that are in flight at the same time."""
WAITING = 128
"""Maximum number of reviews of a lane that are in flight or wait for their turn, shared equally among their sources. At a tenth
of a second each, the last one waits for less than TIMEOUT.
"""
WAITING_OF_SOURCE = 32
"""Maximum number of reviews of one source among those of WAITING, even if there is no other source."""
_FAILURES = 3
"""Number of failed reviews in a row from which on the API server counts as unavailable. A single failure may be due to the
token.
"""


class NotAsked(Unavailable):
    """No review was requested from the API server: too many reviews are waiting, or the last ones failed."""


class TooMany(NotAsked):
    """Too many reviews are waiting for their turn."""

    def __init__(self) -> None:
        super().__init__(0, "too many tokens and permissions are waiting to be checked")


class ReviewLane:
    """Requests reviews from the API server, a limited number at the same time, and none in the pause after failures. Known
    callers have a lane of their own, in which no other caller can wait.
    """

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
        """Whether the API server counts as unavailable, because the last few reviews have failed."""
        return self._failures >= _FAILURES

    @property
    def pausing(self) -> bool:
        """Whether no review is requested at the moment, because the last few reviews have failed."""
        return self.failing and self._clock() - self._failed_at < PAUSE

    async def run(self, source: Hashable, ask: Callable[[], Awaitable[V]]) -> V:
        """Return the result of `ask`, which requests a review. Raises what `ask` raises, Unavailable if it takes longer than
        TIMEOUT, or NotAsked if the review is not requested.

        `source` is where the request comes from: one source cannot take all places in the lane.
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
