"""Consecutive failures survive a restart of the operator."""

import asyncio
import time
from dataclasses import dataclass

import pytest

from support.redis_replicas import CODEC, KEYS, FakeApiServer, InProcessReplicas, until
from testservers.redis import RedisServer
from userstorage_operator.api.userstorage import Key
from userstorage_operator.observed import backoff
from userstorage_operator.redis_cache.codec import Entry
from userstorage_operator.redis_cache.saved_backoffs import SavedBackoffs
from userstorage_operator.runtime.workqueue import WorkQueue

ALICE = Key("users", "alice")


@dataclass
class LeaderProcess:
    """The parts of a leader that count failures."""

    backoffs: SavedBackoffs
    queue: WorkQueue[Key]


def leader(replicas: InProcessReplicas) -> LeaderProcess:
    backoffs = SavedBackoffs(replicas.connection(), KEYS, CODEC, replicas.api_server)
    return LeaderProcess(backoffs, WorkQueue(backoff.delay, backoffs.on_requeue))


async def next_leader(replicas: InProcessReplicas) -> LeaderProcess:
    """Start the next leader up to the point after its first lists."""
    new = leader(replicas)
    for key in replicas.api_server.keys():  # noqa: SIM118  # not a dict
        new.queue.add(key)
    await new.backoffs.resume(replicas.cache(), new.queue, backoff.delay)
    return new


async def fail(replicas: InProcessReplicas, server: RedisServer, times: int) -> float:
    """Let alice fail `times` times in a row and the leader end. Return when the next try is due, in seconds since 1970."""
    old = leader(replicas)
    for _ in range(times):
        old.queue.add_rate_limited(ALICE)
    writing = asyncio.create_task(old.backoffs.run())

    async def written() -> bool:
        return f'"failures":{times},' in server.cli("get", redis_key(replicas.api_server))

    await until(written)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    name = redis_key(replicas.api_server)
    value = CODEC.open(name, server.cli("get", name).encode()).value
    assert value is not None
    return float(value["due"])


def redis_key(api_server: FakeApiServer) -> str:
    return KEYS.backoff(api_server.objects[ALICE]["metadata"]["uid"])


async def test_next_leader_continues_the_count_and_pause_of_failures(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(500):
        api_server.put(f"user-{number}")
    api_server.put("alice")
    due = await fail(replicas, redis_server, 5)
    assert len(redis_server.cli("keys", "*").splitlines()) == 1, "only failing objects are saved"
    before = time.time(), asyncio.get_running_loop().time()
    new = await next_leader(replicas)
    after = time.time(), asyncio.get_running_loop().time()
    assert new.queue.num_requeues(ALICE) == 5
    assert {await new.queue.get() for _ in range(500)} == api_server.objects.keys() - {ALICE}
    assert len(new.queue) == 0
    assert before[1] + due - after[0] <= new.queue._timers[ALICE].when() <= after[1] + due - before[0]


async def test_recovery_deletes_the_saved_backoff(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    await fail(replicas, redis_server, 3)
    new = await next_leader(replicas)
    new.queue.forget(ALICE)
    writing = asyncio.create_task(new.backoffs.run())

    async def removed() -> bool:
        return redis_server.cli("exists", redis_key(api_server)) == "0"

    await until(removed)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_backoff_starts_over_for_a_new_generation_or_object(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    await fail(replicas, redis_server, 3)
    api_server.objects[ALICE]["metadata"]["generation"] += 1
    assert (await next_leader(replicas)).queue.num_requeues(ALICE) == 0
    api_server.remove(ALICE)
    api_server.put("alice")
    assert (await next_leader(replicas)).queue.num_requeues(ALICE) == 0


@pytest.mark.parametrize(
    ("value", "failures"),
    [
        ({"failures": 2, "due": 9e12}, 2),
        ({"failures": 10**5, "due": 9e12}, 10**5),
        ({"failures": 10**9, "due": 9e12}, 0),
        ({"failures": -1, "due": 9e12}, 0),
        ({"failures": 0, "due": 9e12}, 0),
        ({"failures": "many", "due": 9e12}, 0),
        ({"failures": 2, "due": "never"}, 0),
        ({}, 0),
        ([], 0),
        ("more", 0),
    ],
)
async def test_poisoned_entry_is_ignored_or_pauses_no_longer_than_its_count(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, value: object, failures: int
) -> None:
    api_server.put("alice")
    meta, name = api_server.objects[ALICE]["metadata"], redis_key(api_server)
    entry = Entry(value, meta["uid"], 1, meta["generation"])  # type: ignore[arg-type]  # what a poisoner writes
    redis_server.cli("set", name, CODEC.seal(name, entry).decode())
    clock = asyncio.get_running_loop().time
    before = clock()
    queue = (await next_leader(replicas)).queue
    assert queue.num_requeues(ALICE) == failures
    if failures:
        assert len(queue) == 0
        assert before <= queue._timers[ALICE].when() - backoff.delay(failures) <= clock()
    else:
        assert len(queue) == 1
        assert ALICE not in queue._timers


@pytest.mark.parametrize("sealed_for", [None, "another key"])
async def test_unreadable_entry_is_ignored(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, sealed_for: str | None
) -> None:
    api_server.put("alice")
    meta = api_server.objects[ALICE]["metadata"]
    entry = Entry({"failures": 2, "due": 9e12}, meta["uid"], 1, meta["generation"])
    redis_server.cli("set", redis_key(api_server), CODEC.seal(sealed_for, entry).decode() if sealed_for else "garbage")
    queue = (await next_leader(replicas)).queue
    assert (len(queue), queue.num_requeues(ALICE)) == (1, 0)


async def test_failure_counts_start_at_zero_if_redis_fails(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    await fail(replicas, redis_server, 3)
    redis_server.kill()
    queue = (await next_leader(replicas)).queue
    assert (len(queue), queue.num_requeues(ALICE)) == (1, 0)
