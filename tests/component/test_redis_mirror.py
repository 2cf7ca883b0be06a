"""The leader's mirror in Redis, and its recovery from failures of Redis."""

import asyncio
from collections.abc import Awaitable, Callable
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


async def names(reader: RedisReader, **query: Any) -> list[str]:
    """Return the names on the first page."""
    return [item["name"] for item in (await reader.page(Query(limit=1000, **query))).value.summaries]


def filled(reader: RedisReader, replicas: InProcessReplicas) -> Callable[[], Awaitable[bool]]:
    """Return a check whether the reader shows all UserStorages, each from Redis."""

    async def check() -> bool:
        before = replicas.observer.asked["hit"]
        shown = await names(reader)
        hits = replicas.observer.asked["hit"] - before
        return shown == sorted(key.name for key in replicas.api_server.objects) and hits == len(shown)

    return check


def writes(redis_server: RedisServer) -> int:
    """Return how many writes of the present fill are in Redis."""
    return int(redis_server.cli("hget", KEYS.head, "seq"))


async def test_next_write_brings_changes_and_deletions_to_other_replicas(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(450):
        api_server.put(f"user-{number:03}", phase="Ready")
    reader = replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
        before, written = api_server.requests.total(), writes(redis_server)
        changed, gone = api_server.put("user-007", phase="Failed"), Key("users", "user-008")
        uid = api_server.objects[gone]["metadata"]["uid"]
        api_server.remove(gone)

        async def written_again() -> bool:
            return writes(redis_server) >= written + 2  # the first of them may have been under way before the change

        await until(written_again)
        one, other = await reader.one(changed), await reader.one(gone)
        assert not one.stale
        assert one.value is not None
        assert one.value["phase"] == "Failed"
        assert other.value is None
        assert await names(reader, phase="Failed") == ["user-007"]
        assert await names(reader, user="user-008") == []
        assert api_server.requests.total() == before
    tombstone = redis_server.cli("get", KEYS.summary(uid))
    assert CODEC.open(KEYS.summary(uid), tombstone.encode(), uid).value is None


async def test_refill_after_etcd_was_restored_replaces_newer_summaries_and_tombstones(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    alice, bob = api_server.put("alice", phase="Ready"), api_server.put("bob", phase="Ready")
    restored = dict(api_server.objects)
    reader = replicas.reader()
    async with replicas.leading() as mirror:
        await until(filled(reader, replicas))
        api_server.put("alice", phase="Failed")
        api_server.put("dave", phase="Ready")
        api_server.remove(bob)
        await until(filled(reader, replicas))
        api_server.objects = restored
        mirror.refill()
        await until(filled(reader, replicas))
        shown = [(await reader.one(key)).value for key in (alice, bob)]
        assert [value and value["phase"] for value in shown] == ["Ready", "Ready"]


async def test_late_writer_does_not_restore_a_deleted_object(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    key = api_server.put("alice", phase="Ready")
    old, reader = summary(api_server.objects[key]), replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
        api_server.remove(key)
        await until(filled(reader, replicas))

        async def fetch() -> Entry:
            return Entry.of(old, term=0, time=0.0)

        name = KEYS.summary(old["uid"])
        tombstone = redis_server.cli("get", name)
        assert (await replicas.cache().get_or_fetch(Wanted(name, old["uid"]), fetch, 3600)).value is None
        assert redis_server.cli("get", name) == tombstone
        assert 0 < int(redis_server.cli("ttl", name)) <= 60


async def test_every_key_expires_and_none_contains_a_user(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(20):
        api_server.put(f"secret-user-{number}", user=f"secret-user-{number}@example.org")
    reader = replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
    ttls = {key: int(redis_server.cli("ttl", key)) for key in redis_server.cli("keys", "*").splitlines()}
    assert len(ttls) == 22
    assert all(key.startswith("us:{test}:v1:") and "secret" not in key for key in ttls)
    assert all(0 < ttl <= 3960 for ttl in ttls.values())
    assert len(set(ttls.values())) > 10, "they would expire at the same time"


async def test_mirror_refills_after_flushall_without_requests_to_the_api_server(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(1000):
        api_server.put(f"user-{number:04}")
    reader = replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
        before = api_server.requests.total()
        redis_server.cli("flushall")

        async def refilled() -> bool:
            return redis_server.cli("zcard", KEYS.index) == "3000"

        await until(refilled)
        assert api_server.requests.total() == before, "the mirror fills from the watch caches"
        await until(filled(reader, replicas))
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
async def test_damaged_index_or_head_is_rebuilt(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, damage: tuple[str, ...]
) -> None:
    for number in range(10):
        api_server.put(f"user-{number}")
    reader = replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
        redis_server.cli(*damage)

        async def rebuilt() -> bool:
            return redis_server.cli("type", KEYS.index) == "zset" and redis_server.cli("zcard", KEYS.index) == "30"

        await until(rebuilt)
        api_server.put("user-9", phase="Ready")
        await until(lambda: _phase(reader, "user-9", "Ready"))
        await until(filled(reader, replicas))


async def _phase(reader: RedisReader, name: str, phase: str) -> bool:
    found = (await reader.one(Key("users", name))).value
    return found is not None and found["phase"] == phase


async def test_leader_of_an_earlier_term_cannot_write(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice", phase="Pending")
    reader = replicas.reader()
    async with replicas.leading(term=7):
        await until(filled(reader, replicas))
        outdated = FakeApiServer()  # the caches of the old leader, which is cut off from the API server
        outdated.put("alice", phase="Failed")
        deposed = InProcessReplicas(redis_server, outdated)
        async with deposed.leading(term=6) as mirror:

            async def fenced() -> bool:
                assert redis_server.cli("hget", KEYS.head, "term") == "7"
                assert await _phase(reader, "alice", "Pending")
                return mirror._failure == "fenced"

            for _ in range(3):
                mirror._failure = None
                outdated.put("alice", phase="Failed")
                await until(fenced)
        await deposed.close()


async def test_later_leader_takes_over_while_the_earlier_one_writes(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    reader = replicas.reader()
    async with replicas.leading(term=1):
        await until(filled(reader, replicas))
        async with replicas.leading(term=2):

            async def taken_over() -> bool:
                return redis_server.cli("hget", KEYS.head, "term") == "2"

            await until(taken_over)
            await until(filled(reader, replicas))
            assert await taken_over(), "the earlier leader wrote again"


async def test_mirror_refills_after_redis_lost_the_last_writes(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    # As after a failover to a replica that lagged: complete, but older.
    for number in range(300):
        api_server.put(f"user-{number:03}", phase="Pending")
    reader = replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
        redis_server.cli("save")
        api_server.put("user-001", phase="Ready")
        api_server.remove(Key("users", "user-002"))
        await until(lambda: _phase(reader, "user-001", "Ready"))
        redis_server.kill()
        redis_server.start()
        assert redis_server.cli("zcard", KEYS.index) == "900"

        async def refilled() -> bool:
            return redis_server.cli("zcard", KEYS.index) == "897"

        await until(refilled)
        await until(filled(reader, replicas))
        assert await _phase(reader, "user-001", "Ready")


async def test_mirror_recovers_from_an_outage_with_more_changes_than_it_queues(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice", phase="Pending")
    reader = replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
        redis_server.kill()
        for number in range(12_000):
            api_server.put(f"user-{number % 50}")
        for key in list(api_server.objects):
            if key.name.startswith("user-"):
                api_server.remove(key)
        api_server.put("alice", phase="Ready")
        await asyncio.sleep(1.5)
        redis_server.start()
        await until(filled(reader, replicas))
        assert await _phase(reader, "alice", "Ready")


async def test_mirror_works_on_a_redis_cluster(new_redis: Callable[..., RedisServer], api_server: FakeApiServer) -> None:
    redis_server = new_redis(cluster=True)
    replicas = InProcessReplicas(redis_server, api_server)
    for number in range(250):
        api_server.put(f"user-{number:03}")
    reader = replicas.reader()
    async with replicas.leading():
        await until(filled(reader, replicas))
        removed, kept = Key("users", "user-003"), Key("users", "user-004")
        name = KEYS.summary(api_server.objects[removed]["metadata"]["uid"])
        before = api_server.requests.total()
        api_server.remove(removed)

        async def tombstone() -> bool:
            return CODEC.open(name, redis_server.cli("get", name).encode()).value is None

        await until(tombstone)
        other_reader = replicas.reader()
        assert (await other_reader.one(removed)).value is None
        assert (await other_reader.one(kept)).value == summary(api_server.objects[kept])
        assert await names(other_reader) == sorted(key.name for key in api_server.objects)
        assert api_server.requests.total() == before, "it was answered by the API server instead of Redis"
    await replicas.close()
