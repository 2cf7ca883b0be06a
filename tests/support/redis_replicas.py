"""A leader's mirror and the readers of other replicas around a real Redis, with a fake API server."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeVar

from support.builders import storage_object
from support.kubectl import PATIENCE
from testservers.redis import RedisServer
from userstorage_operator.api.errors import NotFound, Unavailable
from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.redis_cache.codec import Codec
from userstorage_operator.redis_cache.connection import Connection
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.mirror import Mirror
from userstorage_operator.redis_cache.mirror_reader import MirrorReader
from userstorage_operator.redis_cache.read_through_cache import ReadThroughCache
from userstorage_operator.redis_cache.reader import RedisReader
from userstorage_operator.redis_cache.settings import RedisSettings

T = TypeVar("T")

KEYS = Keys("test")
CODEC = Codec(b"key of the test")
ALL = (None,)


class RedisMetricsRecorder:
    """Counts what the Redis cache reports."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.fills = 0

    def cache_asked(self, result: str, count: int = 1) -> None:
        self.asked[result] += count

    def mirror_filled(self) -> None:
        self.fills += 1

    def cache_rejected(self, reason: str) -> None:
        self.rejected[reason] += 1

    def redis_labels(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        pass

    def redis_answered(self, seconds: float) -> None:
        pass

    def redis_failed(self, kind: str) -> None:
        self.failed[kind] += 1

    def redis_breaker(self, state: str) -> None:
        pass


class FakeApiServer:
    """The UserStorages of a cluster. The leader's watch caches show each change at once."""

    def __init__(self) -> None:
        self.objects: dict[Key, Unstructured] = {}
        self.requests: Counter[str] = Counter()
        self.unavailable = False
        self.delay = 0.0
        self.listeners: list[Callable[[Key], None]] = []
        self._version = 100

    def put(self, name: str, namespace: str = "users", *, user: str | None = None, **status: Any) -> Key:
        """Create or change a UserStorage."""
        key = Key(namespace, name)
        known = self.objects.get(key)
        uid = known["metadata"]["uid"] if known else f"uid-{self._version + 1}"
        self._version += 1
        meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(self._version)}
        self.objects[key] = storage_object(user or name, meta=meta) | {"status": status}
        self._notify(key)
        return key

    def remove(self, key: Key) -> None:
        """Delete a UserStorage."""
        del self.objects[key]
        self._notify(key)

    def _notify(self, key: Key) -> None:
        for listener in self.listeners:
            listener(key)

    def keys(self) -> list[Key]:
        return list(self.objects)

    def storage(self, key: Key) -> Unstructured | None:
        return self.objects.get(key)

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        await self._request("get")
        try:
            return self.objects[Key(str(namespace), name)]
        except KeyError:
            raise NotFound(404, "not found") from None

    async def pages(self, resource: Resource, namespace: str | None) -> AsyncIterator[list[Unstructured]]:
        await self._request("list")
        yield [raw for key, raw in self.objects.items() if namespace in (None, key.namespace)]

    async def _request(self, verb: str) -> None:
        self.requests[verb] += 1
        await asyncio.sleep(self.delay)
        if self.unavailable:
            raise Unavailable(0, "no answer from the API server")


class InProcessReplicas:
    """Replicas of the operator in this process: their parts that use Redis."""

    def __init__(self, server: RedisServer | None, api_server: FakeApiServer) -> None:
        self.api_server = api_server
        self.observer = RedisMetricsRecorder()
        self._server = server
        self._connections: list[Connection] = []

    def connection(self) -> Connection:
        """Return the connection of a new replica."""
        settings = RedisSettings(self._server.url, timeout=1.0) if self._server else None
        self._connections.append(Connection(settings, self.observer))
        return self._connections[-1]

    def cache(self) -> ReadThroughCache:
        """Return the cache of a new replica."""
        return ReadThroughCache(self.connection(), CODEC, self.observer)

    def reader(self, scopes: tuple[str | None, ...] = ALL) -> RedisReader:
        """Return the reader of a new replica."""
        connection = self.connection()
        mirror = MirrorReader(connection, KEYS, CODEC, scopes, self.observer)
        return RedisReader(self.api_server, mirror, ReadThroughCache(connection, CODEC, self.observer), KEYS, scopes)

    @contextlib.asynccontextmanager
    async def leading(self, term: int = 1) -> AsyncIterator[Mirror]:
        """Run the mirror of a leader of that term."""
        mirror = Mirror(self.connection(), KEYS, CODEC, self.api_server, ALL, term, self.observer)
        self.api_server.listeners.append(mirror.changed)
        task = asyncio.create_task(mirror.run())
        try:
            yield mirror
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.api_server.listeners.remove(mirror.changed)

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


async def until(check: Callable[[], Awaitable[T]], within: float = PATIENCE) -> T:
    """Return the first truthy result of `check`; fail if there is none within `within` seconds."""
    deadline = time.monotonic() + within
    while not (result := await check()):
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.02)
    return result
