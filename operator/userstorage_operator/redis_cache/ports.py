"""The interfaces that redis_cache needs from other packages."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from redis.asyncio import Redis

from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key

T = TypeVar("T")


class RedisConnection(Protocol):
    """Makes calls to Redis."""

    async def run(self, operation: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """Return the result of `call`, which gets the Redis client. `operation` names the call in error messages. Raises
        RedisUnavailable if Redis fails in any way.
        """


class ApiServer(Protocol):
    """Reads objects from the API server, not from a cache. Every call raises a ClusterError if it fails."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """Return the object as the API server has it now."""

    def pages(self, resource: Resource, namespace: str | None) -> AsyncIterator[list[Unstructured]]:
        """Yield all objects as the API server has them now, page by page."""


class WatchedStorages(Protocol):
    """The UserStorages in the watch caches of this process."""

    def keys(self) -> Iterable[Key]:
        """Return the key of every UserStorage in the caches."""

    def storage(self, key: Key) -> Unstructured | None:
        """Return the UserStorage with this key as a dict; None if the caches have none."""


class CacheObserver(Protocol):
    """Receives the results of cache lookups, the fills and the rejected values, for metrics."""

    def cache_asked(self, result: str, count: int = 1) -> None:
        """Record `count` lookups of summaries; `result` is hit, miss, stale or error."""

    def mirror_filled(self) -> None:
        """Record that the leader has finished a complete rewrite of the mirror in Redis."""

    def cache_rejected(self, reason: str) -> None:
        """Record that a value from Redis was rejected; `reason` is a `codec.Reason`."""
