"""A queue of keys like client-go's: each key waits at most once, only one worker processes it at a time, and failures back off.

`fair_queue.py` has the order in which the keys are served.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic

from userstorage_operator.runtime.fair_queue import DEFAULT_PRIORITY, FairQueue, K

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
        flow_of: Callable[[K], Hashable] = lambda _: None,
    ) -> None:
        """`backoff(n)` returns the seconds to wait after the n-th consecutive failure of a key. `on_requeue(key, failures,
        delay)` is called when the number of consecutive failures of a key changes; `delay` is the seconds until the next try.
        `forget` passes 0 for both. Flows of the same priority are served in turn; by default there is one flow.
        """
        self._backoff = backoff
        self._on_requeue = on_requeue
        self._queued = FairQueue(flow_of)
        self._processing: dict[K, int] = {}
        """Key -> the priority with which it was served."""
        self._dirty: dict[K, int] = {}
        """Keys that were added while a worker processes them, with their priority; `done` queues them again."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._ready = asyncio.Semaphore(0)
        self._next_repeat = 0.0
        self.is_shut_down = False
        """Whether `shut_down` was called."""

    def __len__(self) -> int:
        """Return the number of keys that wait for a worker."""
        return len(self._queued)

    def oldest_wait(self) -> float:
        """Return the seconds for which the key that has waited longest has waited, of all priorities; 0 if the queue is empty."""
        since = self._queued.oldest()
        return asyncio.get_running_loop().time() - since if since is not None else 0.0

    def add(self, key: K, priority: int = DEFAULT_PRIORITY) -> None:
        """Queue `key` now, even if it is waiting for the end of its backoff. A key that a worker is processing is queued when
        the worker is done. If the key is added repeatedly, the highest priority counts.
        """
        if self.is_shut_down:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        if key in self._processing:
            self._dirty[key] = max(priority, self._dirty.get(key, priority))
            return
        if key not in self._queued:
            self._ready.release()
        self._queued.push(key, priority, asyncio.get_running_loop().time())

    def add_unless_backing_off(self, key: K, priority: int = DEFAULT_PRIORITY) -> None:
        """Queue `key` now, unless it is waiting for the end of its backoff. For callers that do not know whether the object has
        changed.
        """
        if key not in self._failures or key not in self._timers:
            self.add(key, priority)

    def add_after(self, key: K, delay: float, priority: int = DEFAULT_PRIORITY) -> None:
        """Queue `key` in `delay` seconds. A sooner time from an earlier call stays, and a key that is queued already is not queued
        again: no worker has looked at its object yet.
        """
        if self.is_shut_down:
            return
        if key in self._queued:
            self.add(key, priority)  # keeps its time; the higher priority counts
            return
        loop = asyncio.get_running_loop()
        if (timer := self._timers.get(key)) is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key, priority)

    def add_rate_limited(self, key: K, min_delay: float = 0.0) -> float:
        """Count a failure of `key`, and queue it after its backoff or after `min_delay` seconds, whichever is longer. Return
        that delay in seconds. A key that is being processed keeps its priority.

        Keys that keep failing share a rate: the more of them there are, the later each is tried again.
        """
        self._failures[key] = self._failures.get(key, 0) + 1
        delay = max(self._backoff(self._failures[key]), min_delay)
        if self._failures[key] > _OWN_PACE:
            now = asyncio.get_running_loop().time()
            self._next_repeat = max(self._next_repeat + 1 / _REPEATS_PER_SECOND, now + delay)
            delay = self._next_repeat - now
        self.add_after(key, delay, self._processing.get(key, DEFAULT_PRIORITY))
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
        self._queued.remove(key)
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
        while not self._queued:  # `resume` or `shut_down` removed the key for which the semaphore was released
            await self._ready.acquire()
        key, priority = self._queued.pop()
        self._processing[key] = priority
        return key

    def done(self, key: K) -> None:
        """Mark `key` as processed, whether that succeeded or failed. If the key was added in the meantime, it is queued again."""
        del self._processing[key]
        if (priority := self._dirty.pop(key, None)) is not None:
            self.add(key, priority)

    def shut_down(self) -> None:
        """Drop all keys that wait, and ignore every key that is added from now on: `get` returns no further key."""
        self.is_shut_down = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._dirty.clear()
        while self._queued:
            self._queued.pop()
