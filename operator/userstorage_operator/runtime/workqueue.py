"""A queue of keys: each at most once, never worked on twice at a time, added later or with a growing pause."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Single-threaded, for one event loop. A key added while it is worked on comes again when that work is done, so
    no event is lost and no two workers meet on a key.
    """

    def __init__(
        self,
        backoff: Callable[[int], float],
        on_requeue: Callable[[K, int, float], None] = lambda _key, _failures, _due_in: None,
    ) -> None:
        """`pause(n)`: seconds to wait after the n-th failure in a row of a key. `noted(key, failures, due_in)` is told how
        many there are now, and seconds until the next try; 0 failures when they end.
        """
        self._backoff = backoff
        self._on_requeue = on_requeue
        self._queued: OrderedDict[K, float] = OrderedDict()
        self._processing: set[K] = set()
        self._dirty: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Semaphore(0)

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._queued)

    def oldest_wait(self) -> float:
        """Seconds that the key at the head of the queue has waited; 0 where none waits."""
        return asyncio.get_running_loop().time() - next(iter(self._queued.values())) if self._queued else 0.0

    def add(self, key: K) -> None:
        """Ask for work on `key` as soon as a worker is free."""
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._processing:
            self._dirty.add(key)
        elif key not in self._queued:
            self._queued[key] = asyncio.get_running_loop().time()
            self._ready.release()

    def add_unless_backing_off(self, key: K) -> None:
        """Ask for work on `key`, but not before its pause after a failure is over: nothing is known to have changed."""
        if key not in self._failures or key not in self._timers:
            self.add(key)

    def add_after(self, key: K, delay: float) -> None:
        """Ask for work on `key` in `delay` seconds, or earlier where that was asked for already."""
        loop = asyncio.get_running_loop()
        if (timer := self._timers.get(key)) is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key)

    def add_rate_limited(self, key: K, min_delay: float = 0.0) -> float:
        """Count a failure of `key` and ask for work on it after the pause that its count calls for, or after `at_least`
        seconds where that is longer: the seconds.
        """
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(self._backoff(self._failures[key]), min_delay)
        self.add_after(key, delay)
        self._on_requeue(key, self._failures[key], delay)
        return delay

    def resume(self, key: K, failures: int, delay: float) -> None:
        """Take over failures in a row from an earlier process: the next try is due in so many seconds, even where the key
        waits for a worker. What this process has seen itself counts more.
        """
        if key in self._failures or key in self._processing:
            return
        self._failures[key] = failures
        self._queued.pop(key, None)
        self.add_after(key, delay)

    def num_requeues(self, key: K) -> int:
        """Failures in a row."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The key succeeded, or is not worth another try."""
        if self._failures.pop(key, None) is not None:
            self._on_requeue(key, 0, 0.0)

    async def get(self) -> K:
        """The next key; `done` must follow."""
        await self._ready.acquire()
        while not self._queued:  # what was resumed left the queue without a worker
            await self._ready.acquire()
        key, _ = self._queued.popitem(last=False)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """The work that `take` began has ended, well or badly."""
        self._processing.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)
