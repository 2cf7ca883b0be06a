"""A queue of keys like client-go's: each key waits at most once, only one worker processes it at a time, and failures back off."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

_OWN_PACE = 5
"""Failures in a row up to which a key is tried again at its own pace."""
_REPEATS_PER_SECOND = 50.0
"""Maximum rate of the tries after that, of all keys together: each costs a few requests."""


class WorkQueue(Generic[K]):
    """A work queue for one event loop; not thread-safe. A key that is added while a worker processes it is queued again when
    the worker is done, so no event is lost and no two workers process one key at the same time.
    """

    def __init__(
        self,
        backoff: Callable[[int], float],
        on_requeue: Callable[[K, int, float], None] = lambda _key, _failures, _delay: None,
    ) -> None:
        """`backoff(n)` returns the seconds to wait after the n-th consecutive failure of a key. `on_requeue(key, failures,
        delay)` is called when the number of consecutive failures of a key changes; `delay` is the seconds until the next try.
        `forget` passes 0 for both.
        """
        self._backoff = backoff
        self._on_requeue = on_requeue
        self._queued: OrderedDict[K, float] = OrderedDict()
        """Key -> time at which it was queued, oldest first."""
        self._processing: set[K] = set()
        self._dirty: set[K] = set()
        """Keys that were added while a worker processes them; `done` queues them again."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Semaphore(0)
        self._next_repeat = 0.0

    def __len__(self) -> int:
        """Return the number of keys that wait for a worker."""
        return len(self._queued)

    def oldest_wait(self) -> float:
        """Return the seconds for which the key at the head of the queue has waited; 0 if the queue is empty."""
        return asyncio.get_running_loop().time() - next(iter(self._queued.values())) if self._queued else 0.0

    def add(self, key: K) -> None:
        """Queue `key` now, even if it is waiting for the end of its backoff. A key that a worker is processing is queued when
        the worker is done.
        """
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._processing:
            self._dirty.add(key)
        elif key not in self._queued:
            self._queued[key] = asyncio.get_running_loop().time()
            self._ready.release()

    def add_unless_backing_off(self, key: K) -> None:
        """Queue `key` now, unless it is waiting for the end of its backoff. For callers that do not know whether the object has
        changed.
        """
        if key not in self._failures or key not in self._timers:
            self.add(key)

    def add_after(self, key: K, delay: float) -> None:
        """Queue `key` in `delay` seconds. A sooner time from an earlier call stays."""
        loop = asyncio.get_running_loop()
        if (timer := self._timers.get(key)) is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key)

    def add_rate_limited(self, key: K, min_delay: float = 0.0) -> float:
        """Count a failure of `key`, and queue it after its backoff or after `min_delay` seconds, whichever is longer. Return
        that delay in seconds.

        Keys that keep failing share a rate: the more of them there are, the later each is tried again.
        """
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(self._backoff(self._failures[key]), min_delay)
        if self._failures[key] > _OWN_PACE:
            now = asyncio.get_running_loop().time()
            self._next_repeat = max(self._next_repeat + 1 / _REPEATS_PER_SECOND, now + delay)
            delay = self._next_repeat - now
        self.add_after(key, delay)
        self._on_requeue(key, self._failures[key], delay)
        return delay

    def resume(self, key: K, failures: int, delay: float) -> None:
        """Continue the backoff of `key` from an earlier process: take over its number of consecutive `failures`, and queue
        `key` in `delay` seconds instead of now. Ignored if this process has already counted a failure of the key, or is
        processing it.
        """
        if key in self._failures or key in self._processing:
            return
        self._failures[key] = failures
        self._queued.pop(key, None)
        self.add_after(key, delay)

    def num_requeues(self, key: K) -> int:
        """Return the number of consecutive failures of `key`."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """Reset the number of consecutive failures of `key` to 0: its reconcile has succeeded, or the failure is not retried."""
        if self._failures.pop(key, None) is not None:
            self._on_requeue(key, 0, 0.0)

    async def get(self) -> K:
        """Wait for the next key and return it. The caller must call `done` when it has processed the key."""
        await self._ready.acquire()
        while not self._queued:  # `resume` removed the key for which the semaphore was released
            await self._ready.acquire()
        key, _ = self._queued.popitem(last=False)
        self._processing.add(key)
        return key

    def done(self, key: K) -> None:
        """Mark `key` as processed, whether that succeeded or failed. If the key was added in the meantime, it is queued again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._dirty.discard(key)
            self.add(key)
