"""What the leader keeps in Redis, whatever becomes of Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support.redis_replicas import CODEC, KEYS, FakeApiServer, InProcessReplicas, until
from testservers.redis import RedisServer
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Query
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.codec import Entry
from userstorage_operator.redis_cache.read_through_cache import Wanted
from userstorage_operator.redis_cache.reader import RedisReader


@pytest.fixture
def api_server() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def replicas(redis_server: RedisServer, api_server: FakeApiServer) -> AsyncIterator[InProcessReplicas]:
    these = InProcessReplicas(redis_server, api_server)
    yield these
    await these.close()


async def names(directory: RedisReader, **query: Any) -> list[str]:
    """The names on the first page of a directory."""
    return [view["name"] for view in (await directory.page(Query(limit=1000, **query))).value.summaries]


def filled(directory: RedisReader, replicas: InProcessReplicas) -> Callable[[], Awaitable[bool]]:
    """Whether the directory has all there is, and every view from Redis."""

    async def look() -> bool:
        before = replicas.observer.asked["hit"]
        shown = await names(directory)
        hits = replicas.observer.asked["hit"] - before
        return shown == sorted(key.name for key in replicas.api_server.objects) and hits == len(shown)

    return look


async def test_a_change_and_a_deletion_reach_another_replica_within_a_second(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(450):
        api_server.put(f"user-{number:03}", phase="Ready")
    directory = replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas))
        before = api_server.requests.total()
        changed, gone = api_server.put("user-007", phase="Failed"), Key("users", "user-008")
        uid = api_server.objects[gone]["metadata"]["uid"]
        api_server.remove(gone)

        async def shown() -> bool:
            one, other = await directory.one(changed), await directory.one(gone)
            assert not one.stale
            return one.value is not None and one.value["phase"] == "Failed" and other.value is None

        await until(shown, within=1)
        assert await names(directory, phase="Failed") == ["user-007"]
        assert await names(directory, user="user-008") == []
        assert api_server.requests.total() == before
    tombstone = redis_server.cli("get", KEYS.summary(uid))
    assert CODEC.open(KEYS.summary(uid), tombstone.encode(), uid).value is None


async def test_a_late_writer_does_not_bring_back_the_dead(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    key = api_server.put("alice", phase="Ready")
    old, directory = summary(api_server.objects[key]), replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas))
        api_server.remove(key)
        await until(filled(directory, replicas))

        async def fetch() -> Entry:
            return Entry.of(old, term=0, time=0.0)

        name = KEYS.summary(old["uid"])
        tombstone = redis_server.cli("get", name)
        assert (await replicas.cache().get_or_fetch(Wanted(name, old["uid"]), fetch, 3600)).value is None
        assert redis_server.cli("get", name) == tombstone
        assert 0 < int(redis_server.cli("ttl", name)) <= 60


async def test_everything_has_a_time_to_live_and_no_key_tells_a_user(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(20):
        api_server.put(f"someone-{number}", user=f"someone-{number}@example.org")
    directory = replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas))
    lives = {key: int(redis_server.cli("ttl", key)) for key in redis_server.cli("keys", "*").splitlines()}
    assert len(lives) == 22
    assert all(key.startswith("us:{test}:v1:") and "someone" not in key for key in lives)
    assert all(0 < ttl <= 3960 for ttl in lives.values())
    assert len(set(lives.values())) > 10, "they would run out together"


async def test_after_flushall_all_is_there_again_without_the_api_server(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(1000):
        api_server.put(f"user-{number:04}")
    directory = replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas))
        before = api_server.requests.total()
        redis_server.cli("flushall")

        async def whole() -> bool:
            return redis_server.cli("zcard", KEYS.index) == "2000"

        await until(whole)
        assert api_server.requests.total() == before, "the mirror knows everything itself"
        await until(filled(directory, replicas))
        assert replicas.observer.fills == 2


@pytest.mark.parametrize(
    "damage",
    [
        ("del", KEYS.index),
        ("set", KEYS.index, "garbage"),
        ("set", KEYS.head, "garbage"),
        ("zadd", KEYS.index, "0", "n garbage"),
        ("zremrangebyrank", KEYS.index, "0", "0"),
        ("hset", KEYS.head, "fill", "another", "term", "1"),
        ("hset", KEYS.head, "seq", "0"),
        ("hset", KEYS.head, "term", "99", "time", "9999999999"),
    ],
    ids=" ".join,
)
async def test_what_is_damaged_is_made_anew(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, damage: tuple[str, ...]
) -> None:
    for number in range(10):
        api_server.put(f"user-{number}")
    directory = replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas))
        redis_server.cli(*damage)

        async def mended() -> bool:
            return redis_server.cli("type", KEYS.index) == "zset" and redis_server.cli("zcard", KEYS.index) == "20"

        await until(mended)
        api_server.put("user-9", phase="Ready")
        await until(lambda: _phase(directory, "user-9", "Ready"))
        await until(filled(directory, replicas))


async def _phase(directory: RedisReader, name: str, phase: str) -> bool:
    told = (await directory.one(Key("users", name))).value
    return told is not None and told["phase"] == phase


async def test_of_two_leaders_the_one_of_the_earlier_term_writes_nothing(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice", phase="Pending")
    directory = replicas.directory()
    async with replicas.leading(term=7):
        await until(filled(directory, replicas))
        old = FakeApiServer()  # what the old leader sees: it is cut off from the news
        old.put("alice", phase="Failed")
        deposed = InProcessReplicas(redis_server, old)
        async with deposed.leading(term=6):
            for _ in range(30):
                assert redis_server.cli("hget", KEYS.head, "term") == "7"
                old.put("alice", phase="Failed")
                told = (await directory.one(Key("users", "alice"))).value
                assert told is not None
                assert told["phase"] == "Pending"
                await asyncio.sleep(0.05)
        await deposed.close()


async def test_a_later_leader_takes_over_at_once(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    directory = replicas.directory()
    async with replicas.leading(term=1):
        await until(filled(directory, replicas))
        async with replicas.leading(term=2):

            async def taken_over() -> bool:
                return redis_server.cli("hget", KEYS.head, "term") == "2"

            await until(taken_over, within=2)
            await until(filled(directory, replicas))


async def test_a_redis_that_lost_the_last_writes_is_filled_anew(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    """As after a failover to a replica that was behind: whole, and of a moment ago."""
    for number in range(300):
        api_server.put(f"user-{number:03}", phase="Pending")
    directory = replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas))
        redis_server.cli("save")
        api_server.put("user-001", phase="Ready")
        api_server.remove(Key("users", "user-002"))
        await until(lambda: _phase(directory, "user-001", "Ready"))
        redis_server.kill()
        redis_server.start()
        assert redis_server.cli("zcard", KEYS.index) == "600"

        async def whole() -> bool:
            return redis_server.cli("zcard", KEYS.index) == "598"

        await until(whole, within=10)
        await until(filled(directory, replicas))
        assert await _phase(directory, "user-001", "Ready")


async def test_redis_may_be_away_for_any_time(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice", phase="Pending")
    directory = replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas))
        redis_server.kill()
        for number in range(12_000):
            api_server.put(f"user-{number % 50}")
        for key in list(api_server.objects):
            if key.name.startswith("user-"):
                api_server.remove(key)
        api_server.put("alice", phase="Ready")
        await asyncio.sleep(1.5)
        redis_server.start()
        await until(filled(directory, replicas), within=20)
        assert await _phase(directory, "alice", "Ready")


async def test_all_of_it_works_on_a_redis_cluster(new_redis: Callable[..., RedisServer], api_server: FakeApiServer) -> None:
    replicas = InProcessReplicas(new_redis(cluster=True), api_server)
    for number in range(250):
        api_server.put(f"user-{number:03}")
    directory = replicas.directory()
    async with replicas.leading():
        await until(filled(directory, replicas), within=10)
        api_server.remove(Key("users", "user-003"))
        await until(filled(directory, replicas))
    told = await replicas.directory().one(Key("users", "user-004"))
    assert told.value is not None
    await replicas.close()
