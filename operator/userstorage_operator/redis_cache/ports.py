"""The interfaces that redis_cache needs from other packages."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from redis.asyncio import Redis

from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key

T = TypeVar("T")


class RedisConnection(Protocol):
    """Runs calls on Redis."""

    async def run(self, operation: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """Return the result of `call`. `operation` names the call in error messages. Raises RedisUnavailable if Redis fails in
        any way.
        """


class ApiServer(Protocol):
    """Reads live objects from the API server. Every call raises a ClusterError if it fails."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """Return the live object."""

    async def list_all(self, resource: Resource, namespace: str | None) -> tuple[list[Unstructured], str]:
        """Return the live objects and the resourceVersion of the list."""


class WatchedStorages(Protocol):
    """The UserStorages in the watch caches of this process."""

    def keys(self) -> Iterable[Key]:
        """Return the key of every known UserStorage."""

    def storage(self, key: Key) -> Unstructured | None:
        """Return the UserStorage as a dict; None if there is none."""


class CacheObserver(Protocol):
    """Receives the counts of the cache, for metrics."""

    def cache_asked(self, result: str, count: int = 1) -> None:
        """Record `count` requested summaries; `result` is hit, miss, stale or error."""

    def mirror_filled(self) -> None:
        """Record that the leader has finished a complete rewrite of the mirror."""

    def cache_rejected(self, reason: str) -> None:
        """Record a rejected value; `reason` is a `codec.Reason`."""
