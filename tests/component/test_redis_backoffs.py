"""Failures in a row outlive the process that counted them."""

import asyncio
import time
from collections.abc import AsyncIterator
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
    """An operator, as far as pauses are concerned."""

    backoffs: SavedBackoffs
    queue: WorkQueue[Key]


@pytest.fixture
def api_server() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def replicas(redis_server: RedisServer, api_server: FakeApiServer) -> AsyncIterator[InProcessReplicas]:
    these = InProcessReplicas(redis_server, api_server)
    yield these
    await these.close()


def process(replicas: InProcessReplicas) -> LeaderProcess:
    backoffs = SavedBackoffs(replicas.connection(), KEYS, CODEC, replicas.api_server)
    return LeaderProcess(backoffs, WorkQueue(backoff.delay, backoffs.on_requeue))


async def restarted(replicas: InProcessReplicas) -> LeaderProcess:
    """The next leader, after its first lists."""
    new = process(replicas)
    for key in replicas.api_server.keys():  # noqa: SIM118  # not a dict
        new.queue.add(key)
    await new.backoffs.resume(replicas.cache(), new.queue, backoff.delay)
    return new


async def failed(replicas: InProcessReplicas, server: RedisServer, times: int) -> float:
    """Have alice fail; when the next try is due."""
    old = process(replicas)
    for _ in range(times):
        old.queue.add_rate_limited(ALICE)
    due = time.time() + backoff.delay(times)
    writing = asyncio.create_task(old.backoffs.run())

    async def written() -> bool:
        return f'"failures":{times},' in server.cli("get", name_of(replicas.api_server))

    await until(written)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    return due


def name_of(api_server: FakeApiServer) -> str:
    return KEYS.backoff(api_server.objects[ALICE]["metadata"]["uid"])


async def test_count_and_pause_go_on_after_a_restart(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(500):
        api_server.put(f"user-{number}")
    api_server.put("alice")
    due = await failed(replicas, redis_server, 2)
    assert len(redis_server.cli("keys", "*").splitlines()) == 1, "only what fails is kept"
    new = await restarted(replicas)
    assert new.queue.num_requeues(ALICE) == 2
    assert len(new.queue) == 500
    taken = [await new.queue.get() for _ in range(501)]
    assert taken[-1] == ALICE
    assert -0.1 < time.time() - due < 1


async def test_an_end_of_failures_is_remembered_too(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    await failed(replicas, redis_server, 3)
    new = await restarted(replicas)
    new.queue.forget(ALICE)
    writing = asyncio.create_task(new.backoffs.run())

    async def removed() -> bool:
        return redis_server.cli("exists", name_of(api_server)) == "0"

    await until(removed)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_another_generation_or_object_begins_anew(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    await failed(replicas, redis_server, 3)
    api_server.objects[ALICE]["metadata"]["generation"] += 1
    assert (await restarted(replicas)).queue.num_requeues(ALICE) == 0
    api_server.remove(ALICE)
    api_server.put("alice")
    assert (await restarted(replicas)).queue.num_requeues(ALICE) == 0


@pytest.mark.parametrize(
    "value",
    [
        {"failures": 2, "due": 9e12},
        {"failures": 10**5, "due": 9e12},
        {"failures": 10**9, "due": 9e12},
        {"failures": -1, "due": 1.0},
        {"failures": "many", "due": 1.0},
        {"failures": 2, "due": "never"},
        {},
        [],
        "more",
    ],
)
async def test_a_poisoned_entry_costs_one_pause_at_most(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, value: dict[str, object]
) -> None:
    api_server.put("alice")
    meta = api_server.objects[ALICE]["metadata"]
    sealed = CODEC.seal(name_of(api_server), Entry(value, meta["uid"], 1, meta["generation"]))
    redis_server.cli("set", name_of(api_server), sealed.decode())
    queue = (await restarted(replicas)).queue
    timer = queue._timers.get(ALICE)
    assert timer is None or timer.when() - asyncio.get_running_loop().time() <= 60
    assert (len(queue) == 1) is (timer is None)
    for garbage in ("garbage", CODEC.seal("another key", Entry(value, meta["uid"], 1, meta["generation"])).decode()):
        redis_server.cli("set", name_of(api_server), garbage)
        assert len((await restarted(replicas)).queue) == 1


async def test_without_redis_every_count_begins_anew(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice")
    await failed(replicas, redis_server, 3)
    redis_server.kill()
    assert len((await restarted(replicas)).queue) == 1
