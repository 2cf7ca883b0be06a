"""The facade of this package. The leader keeps a mirror in Redis for the other replicas, and its backoffs for the next leader.
The other replicas answer requests to the read API from the mirror.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from userstorage_operator.api.userstorage import Key
from userstorage_operator.redis_cache.breaker import State
from userstorage_operator.redis_cache.codec import Codec, Reason
from userstorage_operator.redis_cache.connection import Connection, RedisObserver
from userstorage_operator.redis_cache.head import Scopes
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.mirror import Mirror
from userstorage_operator.redis_cache.mirror_check import MirrorCheck
from userstorage_operator.redis_cache.mirror_reader import MirrorReader
from userstorage_operator.redis_cache.ports import ApiServer, CacheObserver, WatchedStorages
from userstorage_operator.redis_cache.read_through_cache import ReadThroughCache
from userstorage_operator.redis_cache.reader import RedisReader
from userstorage_operator.redis_cache.saved_backoffs import SavedBackoffs
from userstorage_operator.redis_cache.settings import RedisSettings
from userstorage_operator.runtime.workqueue import WorkQueue


class RedisCacheObserver(RedisObserver, CacheObserver, Protocol):
    """Receives the outcome of calls to Redis and of cache lookups, for metrics."""

    def cache_labels(self, reasons: Iterable[str]) -> None:
        """Say beforehand which values of `reason` `cache_rejected` will get, so that all time series exist from the start."""


class RedisCache:
    """Everything that one process does with Redis. If `settings` is None, the leader shares nothing, and the other replicas
    read the API server.
    """

    def __init__(self, settings: RedisSettings | None, scopes: Scopes, observer: RedisCacheObserver) -> None:
        self._settings = settings
        self._scopes = scopes
        self._observer = observer
        self._connection = Connection(settings, observer)
        self._keys = Keys(settings.cluster_name if settings is not None else "")
        self._codec = Codec(settings.signing_key() if settings is not None else b"")
        self._cache = ReadThroughCache(self._connection, self._codec, observer)
        self._mirror_reader = MirrorReader(self._connection, self._keys, self._codec, scopes, observer)
        self._mirror_check = MirrorCheck(self._mirror_reader)
        observer.cache_labels(Reason)
        self._backoffs: SavedBackoffs | None = None
        self._mirror: Mirror | None = None

    @property
    def degradation(self) -> str | None:
        """Message that Redis fails; None if Redis works or is not configured."""
        return (
            None
            if self._connection.state is State.CLOSED
            else "Redis does not answer; the operator works without it, but more slowly"
        )

    async def has_mirror(self) -> bool:
        """Whether Redis answers, and has the state of all UserStorages. Redis is asked at most once in two seconds."""
        return await self._mirror_check.passed()

    def reader(self, api_server: ApiServer) -> RedisReader:
        """Return the reader of UserStorages for the read API of a process that does not lead."""
        return RedisReader(api_server, self._mirror_reader, self._cache, self._keys, self._scopes)

    def changed(self, key: Key) -> None:
        """Queue a UserStorage that was created, changed or deleted, to be written to the mirror. Ignored before `lead` is
        called: the mirror starts with all UserStorages.
        """
        if self._mirror is not None:
            self._mirror.changed(key)

    def refill(self) -> None:
        """Write the whole mirror again: etcd was restored, and Redis would keep its newer versions. Ignored before `lead`."""
        if self._mirror is not None:
            self._mirror.refill()

    def on_requeue(self, key: Key, failures: int, due_in: float) -> None:
        """Save in Redis the number of consecutive failures of a UserStorage and the seconds until the next try. Ignored before
        `lead` is called.
        """
        if self._backoffs is not None:
            self._backoffs.on_requeue(key, failures, due_in)

    async def lead(
        self, watched: WatchedStorages, queue: WorkQueue[Key], pause: Callable[[int], float], term: int
    ) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """Resume in `queue` the backoffs that an earlier leader saved; `pause(n)` is the longest backoff after n failures.
        Return the coroutines to run while this process leads, each with a name for its task.

        Call this after the first lists of the watch caches and before the workers start. `term` increases with every change of
        the leader.
        """
        if self._settings is None:
            return []
        self._backoffs = SavedBackoffs(self._connection, self._keys, self._codec, watched)
        await self._backoffs.resume(self._cache, queue, pause)
        self._mirror = Mirror(self._connection, self._keys, self._codec, watched, self._scopes, term, self._observer)
        return [(self._mirror.run(), "mirror"), (self._backoffs.run(), "backoffs")]

    async def close(self) -> None:
        """Close the connections to Redis."""
        await self._connection.close()
