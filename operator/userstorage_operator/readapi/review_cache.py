"""Answers of the API server, remembered for a short while: a thousand questions a second cost it one in a few seconds."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache

from userstorage_operator.api.errors import ClusterError, Unavailable

V = TypeVar("V")

YES = 10.0
"""Seconds for which a positive answer is good."""
NO = 3.0
"""Seconds for which a negative one is: rights that were just given should work soon."""
GRACE = 60.0
"""Seconds that a positive answer lives on for while the API server cannot be asked (docs/security.md)."""
_PATIENCE = 3.0
"""Seconds to wait for the API server."""
_PAUSE = 1.0
"""Seconds after a failure in which it is not asked again."""
_AT_ONCE = 8
"""Questions under way at the same time: a flood of invented tokens must not become a flood of reviews."""
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _Known(Generic[V]):
    value: V
    since: float
    """When it was asked, not when it was answered."""


class ReviewCache(Generic[V]):
    """Remembers the last answers, the truthy ones longer. A question is put once, however many wait for its answer; where
    it is put again and again, it is put ahead of time, so that nobody waits.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, grace: float = GRACE) -> None:
        self._clock = clock
        self._grace = grace
        self._known: LRUCache[Hashable, _Known[V]] = LRUCache(_REMEMBERED)
        self._asking: dict[Hashable, asyncio.Task[_Known[V] | ClusterError]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._failure: Unavailable | None = None
        self._failed_at = 0.0

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer, from memory or by `ask()`. Raises the ClusterError of a question that failed."""
        known = self._known.get(key)
        age = self._clock() - known.since if known is not None else 0.0
        if known is not None and age < (YES if known.value else NO):
            if known.value and age > YES / 2 and not self._resting():
                self._put(key, ask)
            return known.value
        spare = known if known is not None and known.value and age < YES + self._grace else None
        outcome: _Known[V] | ClusterError
        if self._failure is not None and (spare is not None or self._resting()):
            outcome = self._failure  # nobody waits for what fails anyway
            if not self._resting():
                self._put(key, ask)
        else:
            outcome = await asyncio.shield(self._put(key, ask))
        if isinstance(outcome, _Known):
            return outcome.value
        if spare is not None and isinstance(outcome, Unavailable):
            return spare.value
        raise outcome

    def _resting(self) -> bool:
        """Whether a question has just failed."""
        return self._failure is not None and self._clock() - self._failed_at < _PAUSE

    def _put(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> "asyncio.Task[_Known[V] | ClusterError]":
        """The question under way, put now where it is not yet."""
        if (asking := self._asking.get(key)) is None:
            asking = self._asking[key] = asyncio.create_task(self._ask(key, ask))
        return asking

    async def _ask(self, key: Hashable, ask: Callable[[], Awaitable[V]]) -> "_Known[V] | ClusterError":
        since = self._clock()
        try:
            async with asyncio.timeout(_PATIENCE), self._slots:
                answer = _Known(await ask(), since)
        except TimeoutError:
            return self._failed(Unavailable(0, f"no answer from the API server within {_PATIENCE:g} s"))
        except Unavailable as error:
            return self._failed(error)
        except ClusterError as error:
            return error
        finally:
            del self._asking[key]
        self._failure = None
        self._known[key] = answer
        return answer

    def _failed(self, error: Unavailable) -> Unavailable:
        self._failure, self._failed_at = error, self._clock()
        return error
