"""A leader's mirror and the directories of other replicas around a real Redis; the API server is what a test says it is."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from support.builders import storage_object
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

KEYS = Keys("test")
CODEC = Codec(b"key of the test")
ALL = (None,)


class RedisMetricsRecorder:
    """Counts what the store tells of itself."""

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
    """The UserStorages that there are: what the API server answers with, and what the leader's watch shows at once."""

    def __init__(self) -> None:
        self.objects: dict[Key, Unstructured] = {}
        self.requests: Counter[str] = Counter()
        self.unavailable = False
        self.delay = 0.0
        self.listeners: list[Callable[[Key], None]] = []
        self._version = 100

    def put(self, name: str, namespace: str = "users", *, user: str | None = None, **status: Any) -> Key:
        """Create or change one."""
        key = Key(namespace, name)
        known = self.objects.get(key)
        uid = known["metadata"]["uid"] if known else f"uid-{self._version + 1}"
        self._version += 1
        meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(self._version)}
        self.objects[key] = storage_object(user or name, meta=meta) | {"status": status}
        self._tell(key)
        return key

    def remove(self, key: Key) -> None:
        """Delete one."""
        del self.objects[key]
        self._tell(key)

    def _tell(self, key: Key) -> None:
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

    async def list_all(self, resource: Resource, namespace: str | None) -> tuple[list[Unstructured], str]:
        await self._request("list")
        return [raw for key, raw in self.objects.items() if namespace in (None, key.namespace)], str(self._version)

    async def _request(self, verb: str) -> None:
        self.requests[verb] += 1
        await asyncio.sleep(self.delay)
        if self.unavailable:
            raise Unavailable(0, "no answer from the API server")


class InProcessReplicas:
    """Processes of the operator, as far as the store is concerned."""

    def __init__(self, server: RedisServer | None, api_server: FakeApiServer) -> None:
        self.api_server = api_server
        self.observer = RedisMetricsRecorder()
        self._server = server
        self._connections: list[Connection] = []

    def connection(self) -> Connection:
        """A process' own."""
        settings = RedisSettings(self._server.url, timeout=1.0) if self._server else None
        self._connections.append(Connection(settings, self.observer))
        return self._connections[-1]

    def cache(self) -> ReadThroughCache:
        """One process' cache."""
        return ReadThroughCache(self.connection(), CODEC, self.observer)

    def directory(self, scopes: tuple[str | None, ...] = ALL) -> RedisReader:
        """One process' directory."""
        connection = self.connection()
        mirrored = MirrorReader(connection, KEYS, CODEC, scopes, self.observer)
        return RedisReader(self.api_server, mirrored, ReadThroughCache(connection, CODEC, self.observer), KEYS, scopes)

    @contextlib.asynccontextmanager
    async def leading(self, term: int = 1) -> AsyncIterator[Mirror]:
        """A leader of that term."""
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


async def until(look: Callable[[], Awaitable[Any]], within: float = 5.0) -> Any:
    """The first truthy answer; the test fails where none comes in time."""
    deadline = time.monotonic() + within
    while not (answer := await look()):
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.02)
    return answer
