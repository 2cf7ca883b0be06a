"""What the store needs from the outside, and what the outside may be told by it."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from redis.asyncio import Redis

from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key

T = TypeVar("T")


class RedisConnection(Protocol):
    """Redis, or what stands for it. `what` is a word for metrics. Raises RedisUnavailable, and nothing else for trouble of
    Redis.
    """

    async def run(self, operation: str, call: Callable[[Redis], Awaitable[T]]) -> T:
        """The answer of `call`."""


class ApiServer(Protocol):
    """The API server, live. Every call raises a ClusterError where it fails."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """The live object."""

    async def list_all(self, resource: Resource, namespace: str | None) -> tuple[list[Unstructured], str]:
        """The live objects, and the version of the list."""


class WatchedStorages(Protocol):
    """What the watches of this process have seen."""

    def keys(self) -> Iterable[Key]:
        """Every known UserStorage."""

    def storage(self, key: Key) -> Unstructured | None:
        """The raw UserStorage."""


class CacheObserver(Protocol):
    """Who counts (metrics)."""

    def cache_asked(self, result: str, count: int = 1) -> None:
        """So many views were asked for and answered: hit, miss, stale or error."""

    def mirror_filled(self) -> None:
        """All that the leader keeps in Redis has been written anew."""

    def cache_rejected(self, reason: str) -> None:
        """A value in Redis was not what it should be (a `codec.Reason`)."""
