"""Saves the number of consecutive failures of each UserStorage in Redis, so that the next leader continues its backoff.

The saved values are only hints: whatever Redis returns, a pause is never longer than the backoff for the number of failures, at
most a minute.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import structlog
from redis.asyncio import Redis

from userstorage_operator.api.unstructured import version_of
from userstorage_operator.api.userstorage import Key
from userstorage_operator.redis_cache.codec import Codec, Entry
from userstorage_operator.redis_cache.connection import RedisUnavailable
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.ports import RedisConnection, WatchedStorages
from userstorage_operator.redis_cache.read_through_cache import ReadThroughCache, Wanted
from userstorage_operator.runtime.workqueue import WorkQueue

log = structlog.get_logger(__name__)

_TTL = 3600
_WRITE_INTERVAL = 0.5
"""Seconds between two writes to Redis. A failing object is tried again after a second at the earliest."""
_BATCH = 200
_MAX_TRIES = 4
"""Number of failed calls at the start after which the saved backoffs count as unavailable."""
_MAX_PENDING = 10_000
"""Maximum number of UserStorages whose number of failures waits to be written while Redis does not answer. The numbers of
further UserStorages are dropped.
"""
_MAX_FAILURES = 1_000_000


class SavedBackoffs:
    """Saves in Redis what the work queue reports: each new failure of a UserStorage, and that a UserStorage no longer fails."""

    def __init__(self, connection: RedisConnection, keys: Keys, codec: Codec, watched: WatchedStorages) -> None:
        self._connection = connection
        self._keys = keys
        self._codec = codec
        self._watched = watched
        self._pending: dict[str, bytes | None] = {}
        """Redis key -> the value to write there; None deletes the key."""

    def on_requeue(self, key: Key, failures: int, due_in: float) -> None:
        """Note the number of consecutive failures and the seconds until the next try; `run` saves them in Redis later, or
        deletes the saved entry if `failures` is 0. Does no I/O.
        """
        raw = self._watched.storage(key)
        if raw is None:
            return  # the UserStorage was deleted; its entry in Redis expires
        meta, now = raw["metadata"], time.time()
        name = self._keys.backoff(meta["uid"])
        value = {"failures": failures, "due": now + due_in}
        entry = Entry(value, meta["uid"], version_of(raw), meta["generation"], time=now)
        if len(self._pending) < _MAX_PENDING or name in self._pending:
            self._pending[name] = self._codec.seal(name, entry) if failures else None

    async def run(self) -> None:
        """Write the noted numbers of failures to Redis until cancelled. Failures of Redis never end this loop."""
        while True:
            await asyncio.sleep(_WRITE_INTERVAL)
            for _ in range(0, len(self._pending), _BATCH):
                if not await self._write(dict(itertools.islice(self._pending.items(), _BATCH))):
                    break

    async def resume(self, cache: ReadThroughCache, queue: WorkQueue[Key], pause: Callable[[int], float]) -> None:
        """Resume in `queue` the backoffs that the last leader saved. If Redis does not answer, every backoff starts over.

        A call may time out only because the first lists keep the event loop busy, so a failed batch is tried again.
        """
        keys = list(self._watched.keys())
        resumed, tries = 0, _MAX_TRIES
        for start in range(0, len(keys), _BATCH):
            while tries:
                try:
                    resumed += await self._resume(keys[start : start + _BATCH], cache, queue, pause)
                    break
                except RedisUnavailable as error:
                    tries -= 1
                    if not tries:
                        log.info("backoffs_unavailable", why=error.kind)
                    await asyncio.sleep(_WRITE_INTERVAL)
        if resumed:
            log.info("backoffs_resumed", objects=resumed)

    async def _resume(
        self, keys: list[Key], cache: ReadThroughCache, queue: WorkQueue[Key], pause: Callable[[int], float]
    ) -> int:
        living = [raw for raw in map(self._watched.storage, keys) if raw is not None]
        uids = [raw["metadata"]["uid"] for raw in living]
        entries = await cache.get_many([Wanted(self._keys.backoff(uid), uid) for uid in uids])
        resumed = 0
        for raw, entry in zip(living, entries, strict=True):
            if entry is None or entry.value is None or entry.generation != raw["metadata"]["generation"]:
                continue
            failures, due = entry.value.get("failures"), entry.value.get("due")
            if not isinstance(failures, int) or not 0 < failures <= _MAX_FAILURES or not isinstance(due, float):
                continue
            queue.resume(Key.of(raw), failures, min(max(0.0, due - time.time()), pause(failures)))
            resumed += 1
        return resumed

    async def _write(self, batch: dict[str, bytes | None]) -> bool:
        """Write a batch of noted values to Redis. Return whether Redis accepted them."""

        async def write(redis: Redis) -> None:
            pipeline = redis.pipeline(transaction=False)
            for name, value in batch.items():
                pipeline.delete(name) if value is None else pipeline.set(name, value, ex=_TTL)
            await pipeline.execute()

        call: Callable[[Redis], Awaitable[None]] = write
        try:
            await self._connection.run("backoffs", call)
        except RedisUnavailable:
            return False  # Connection counts and logs the failure
        for name, value in batch.items():
            if self._pending.get(name) is value:
                del self._pending[name]
        return True
