"""The whole operator with Redis: the mirror for other replicas, and backoffs that survive a restart."""

import time

import pytest

from support.inprocess import serving
from support.live import Live
from support.redis_replicas import RedisMetricsRecorder, until
from testservers.redis import RedisServer
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.config import Config
from userstorage_operator.readmodel.query import Query
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.codec import Codec
from userstorage_operator.redis_cache.connection import Connection
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.mirror_reader import MirrorReader
from userstorage_operator.redis_cache.read_through_cache import ReadThroughCache
from userstorage_operator.redis_cache.reader import RedisReader
from userstorage_operator.redis_cache.settings import RedisSettings


@pytest.fixture
def config(live: Live, redis_server: RedisServer) -> Config:
    settings = RedisSettings(redis_server.url, timeout=1.0)
    return Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600, redis=settings)


async def test_another_replica_serves_the_state_of_the_leader(live: Live, config: Config) -> None:
    observer, codec, keys = RedisMetricsRecorder(), Codec(b""), Keys("default")
    connection = Connection(config.redis, observer)
    mirror = MirrorReader(connection, keys, codec, config.scopes, observer)
    reader = RedisReader(live.client, mirror, ReadThroughCache(connection, codec, observer), keys, config.scopes)
    with serving(config):
        await live.create()

        async def mirrored() -> bool:
            [raw] = (await live.client.list_all(USER_STORAGES, live.namespace))[0]
            hits = observer.asked["hit"]
            one = await reader.one(Key(live.namespace, "alice"))
            return "observedGeneration" in raw.get("status", {}) and one.value == summary(raw) and observer.asked["hit"] > hits

        await until(mirrored)
        await live.delete(USER_STORAGES, "alice")

        async def gone() -> bool:
            return not (await reader.page(Query())).value.summaries

        await until(gone)
    await connection.close()


async def test_restart_continues_the_count_and_pause_of_a_failing_object(
    live: Live, config: Config, redis_server: RedisServer
) -> None:
    await live.create_object(Kind.SERVICE, "user-storage-alice", {"ports": [{"port": 80}]})
    uid = (await live.create())["metadata"]["uid"]
    name = Keys("default").backoff(uid)

    def saved() -> Unstructured:
        data = redis_server.cli("get", name)
        return Codec(b"").open(name, data.encode(), uid).value or {} if data else {}

    async def failed(times: int) -> bool:
        return bool(saved().get("failures", 0) >= times)

    with serving(config):
        await until(lambda: failed(3))
    before, raw = saved(), await live.get()
    with serving(config) as operator:

        async def tried() -> bool:
            return operator.outcomes["NameConflict"] > 0

        await until(tried)
        assert before["due"] - 0.1 < time.time(), "the pause was cut short"
        await until(lambda: failed(before["failures"] + 1))
        assert saved()["failures"] == before["failures"] + 1
        assert operator.requests["patch", "userstorages"] == 0
    assert await live.get() == raw
