"""Responses of a replica that does not watch, with and without Redis, and their cost for the API server."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.redis_replicas import CODEC, KEYS, FakeApiServer, InProcessReplicas, until
from testservers.redis import RedisServer
from userstorage_operator.api.errors import Unavailable
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.query import Page, Query, page_of
from userstorage_operator.readmodel.summary import summary
from userstorage_operator.redis_cache.codec import Entry
from userstorage_operator.redis_cache.read_through_cache import Wanted
from userstorage_operator.redis_cache.reader import RedisReader

ALICE = Key("users", "alice")
PHASES = ("Ready", "Pending", "Failed")


async def mirror_serves(replicas: InProcessReplicas) -> bool:
    """Whether a new replica answers without the API server."""
    before = replicas.api_server.requests.total()
    await replicas.reader().page(Query())
    return replicas.api_server.requests.total() == before


async def walk(reader: RedisReader, **query: Any) -> list[Unstructured]:
    """Return the items of all pages of a query."""
    found: list[Unstructured] = []
    after: Key | None = None
    while True:
        page: Page = (await reader.page(Query(after=after, **query))).value
        found.extend(page.summaries)
        if page.more_after is None:
            return found
        after = page.more_after


async def test_pages_equal_those_of_a_simple_filter_over_all_objects(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    dice = random.Random(5)  # noqa: S311  # the same queries every time
    namespaces = ["a", "a-b", "a.b", "a0", "b"]
    for number in range(500):
        name = f"{dice.choice(['x', 'x-', 'x.y', 'x-0', 'y'])}{number}z"
        ready = {"conditions": [{"type": "Ready", "status": dice.choice(["True", "False"])}]}
        api_server.put(name, dice.choice(namespaces), user=f"user-{number % 7}", phase=dice.choice(PHASES), **ready)
    summaries = sorted(
        (summary(raw) for raw in api_server.objects.values()), key=lambda item: (item["namespace"], item["name"])
    )
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
        reader, before = replicas.reader(), api_server.requests.total()
        for _ in range(60):
            query: dict[str, Any] = {
                "namespace": dice.choice([None, *namespaces, "nowhere"]),
                "phase": dice.choice([None, *PHASES]),
                "ready": dice.choice([None, True, False]),
                "user": dice.choice([None, None, "user-3", "nobody"]),
                "limit": dice.choice([1, 7, 100, 500]) if dice.random() < 0.8 else 500,
            }
            whole = page_of(iter(summaries), Query(**(query | {"limit": 1000})))
            if query["limit"] > 1 or len(whole.summaries) < 20:
                assert await walk(reader, **query) == list(whole.summaries), query
        assert api_server.requests.total() == before
    without = InProcessReplicas(None, api_server).reader()
    assert await walk(without, limit=37, user="user-3") == [item for item in summaries if item["userID"] == "user-3"]


async def test_age_of_a_response_is_the_age_of_the_head(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    def now() -> float:
        seconds, microseconds = redis_server.cli("time").split()
        return int(seconds) + int(microseconds) / 1e6

    def written() -> float:
        return float(redis_server.cli("hget", KEYS.head, "time"))

    api_server.put("alice")
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
        reader, writes = replicas.reader(), set[float]()
        while len(writes) < 4:
            head, before = written(), now()
            response = await reader.one(ALICE)
            next_head, after = written(), now()
            assert before - next_head <= response.age <= after - head
            assert not response.stale
            writes |= {head, next_head}
            await asyncio.sleep(0.1)
    assert api_server.requests["get"] == 0


async def test_one_list_serves_all_namespaces_if_no_leader_writes(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    for number in range(50):
        api_server.put(f"user-{number}", f"namespace-{number}")
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
    await until(lambda: _not(mirror_serves(replicas)))
    before, reader = api_server.requests["list"], replicas.reader()
    answers = await asyncio.gather(*(reader.page(Query(namespace=f"namespace-{number}")) for number in range(50)))
    assert [page.value.summaries[0]["name"] for page in answers] == [f"user-{number}" for number in range(50)]
    assert api_server.requests["list"] == before + 1


async def _not(check: Awaitable[bool]) -> bool:
    return not await check


def poison(server: RedisServer, api_server: FakeApiServer, kind: str) -> str:
    """Replace alice's summary in Redis. Return the reason with which it must be rejected."""
    alice, bob = (api_server.objects[Key("users", name)]["metadata"]["uid"] for name in ("alice", "bob"))
    key, good = KEYS.summary(alice), server.cli("get", KEYS.summary(alice))
    version, seal, body = good.split(" ", 2)
    match kind:
        case "of another object":
            server.cli("set", key, server.cli("get", KEYS.summary(bob)))
            return "other_object"
        case "future generation":
            edited = body.replace('"generation":3', '"generation":4')
            server.cli("set", key, f"99999999 {seal} {edited}")
            return "seal"
        case "garbage":
            server.cli("set", key, "\\x00garbage")
            return "garbage"
        case "truncated":
            server.cli("set", key, good[:-7])
            return "garbage"
        case "other schema":
            edited = body.replace('"schema":1', '"schema":2')
            server.cli("set", key, f"{version} {seal} {edited}")
            return "schema"
        case "10 MiB":
            server.cli("setrange", key, str(10 * 1024 * 1024), "x")
            return "too_big"
        case "a hash":
            server.cli("del", key)
            server.cli("hset", key, "phase", "Ready")
            return "garbage"
        case _:
            server.cli("set", key, old_summary(api_server, alice))
            return "outdated"


def old_summary(api_server: FakeApiServer, uid: str) -> str:
    """Return an outdated, correctly sealed summary of alice."""
    old = summary(api_server.objects[ALICE]) | {"resourceVersion": "1", "phase": "Failed"}
    return CODEC.seal(KEYS.summary(uid), Entry.of(old, term=1, time=0.0)).decode()


@pytest.mark.parametrize(
    "kind",
    ["of another object", "future generation", "garbage", "truncated", "other schema", "10 MiB", "a hash", "put back"],
)
async def test_poisoned_summary_is_counted_and_replaced_and_never_served(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, kind: str
) -> None:
    for name in ("alice", "bob"):
        api_server.put(name, phase="Ready")
    true = summary(api_server.objects[ALICE])
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
        reason = poison(redis_server, api_server, kind)
        sent = int(_info(redis_server, "total_net_output_bytes"))
        response = await replicas.reader().one(ALICE)
        assert response.value == true
        assert set(replicas.observer.rejected) == {reason}
        assert api_server.requests["get"] == 1
        assert int(_info(redis_server, "total_net_output_bytes")) - sent < 100_000, "it was transferred"
        assert (await replicas.reader().page(Query())).value.summaries[0] == true
        assert api_server.requests["get"] == 1, "it was not replaced"


def _info(server: RedisServer, name: str) -> str:
    return dict(line.split(":") for line in server.cli("info", "stats").splitlines() if ":" in line)[name].strip()


@pytest.mark.parametrize("forged", ["row", "head"])
async def test_forged_index_is_rejected(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, forged: str
) -> None:
    api_server.put("alice", phase="Ready")
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
    if forged == "row":
        script = "local m = redis.call('ZRANGE', KEYS[1], 0, 0)[1]; redis.call('ZREM', KEYS[1], m); "
        script += "redis.call('ZADD', KEYS[1], 0, (string.gsub(m, 'Ready', 'Reads')))"
        redis_server.cli("eval", script, "1", KEYS.index)
    else:
        redis_server.cli("del", KEYS.index)
    redis_server.cli("eval", "redis.call('HSET', KEYS[1], 'time', redis.call('TIME')[1])", "1", KEYS.head)
    response = await replicas.reader().page(Query())
    assert response.value.summaries == (summary(api_server.objects[ALICE]),)
    assert api_server.requests["list"] >= 1
    assert replicas.observer.rejected.total() >= 1


async def test_api_server_gets_one_list_per_two_seconds_if_redis_fails(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(30):
        api_server.put(f"user-{number:02}", phase="Ready")
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
        reader = replicas.reader()
        redis_server.kill()
        api_server.requests.clear()
        began = time.monotonic()
        for _ in range(20):
            pages = await asyncio.gather(*(reader.page(Query(user=f"user-{number:02}")) for number in range(30)))
            assert all(len(page.value.summaries) == 1 for page in pages)
            ones = await asyncio.gather(*(reader.one(Key("users", f"user-{number:02}")) for number in range(30)))
            assert all(response.value is not None and not response.stale for response in ones)
        assert api_server.requests["list"] <= 1 + (time.monotonic() - began) / 2
        assert api_server.requests["get"] == 0, "the list contains them"


async def test_last_known_state_is_served_if_redis_and_api_server_fail(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice", phase="Ready")
    reader, began = replicas.reader(), time.monotonic()
    for ask in (reader.one(ALICE), reader.page(Query())):
        assert not (await ask).stale
    redis_server.kill()
    api_server.unavailable = True
    await until(lambda: _stale(reader))
    one, page = await reader.one(ALICE), await reader.page(Query())
    assert one.value is not None
    assert one.value["phase"] == page.value.summaries[0]["phase"] == "Ready"
    assert page.stale
    elapsed = time.monotonic() - began
    assert 1 <= one.age <= elapsed
    assert 2 <= page.age <= elapsed
    with pytest.raises(Unavailable):
        await reader.one(Key("users", "bob"))
    with pytest.raises(Unavailable):
        await replicas.reader().page(Query())


async def _stale(reader: RedisReader) -> bool:
    return (await reader.one(ALICE)).stale and (await reader.page(Query())).stale


async def test_old_mirror_is_served_if_leader_and_api_server_fail(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    api_server.put("alice", phase="Ready")
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
    api_server.unavailable = True
    reader = replicas.reader()
    await until(lambda: _stale(reader))
    response = await reader.one(ALICE)
    assert response.value == summary(api_server.objects[ALICE])
    assert response.age >= 3


async def test_concurrent_requests_of_many_processes_cause_one_request_to_api_server(
    new_redis: Callable[..., RedisServer], api_server: FakeApiServer
) -> None:
    replicas = InProcessReplicas(new_redis(), api_server)
    api_server.put("alice")
    api_server.delay = 0.3
    caches = [replicas.cache() for _ in range(5)]

    async def fetch() -> Entry:
        return Entry.of(summary(await api_server.get(None, "users", "alice")), term=0, time=time.time())  # type: ignore[arg-type]

    wanted = Wanted(KEYS.answer(ALICE))
    answers = await asyncio.gather(*(cache.get_or_fetch(wanted, fetch, 2) for cache in caches for _ in range(20)))
    assert all(response.value == summary(api_server.objects[ALICE]) for response in answers)
    assert api_server.requests["get"] == 1
    assert replicas.observer.asked == {"miss": 1, "hit": 99}
    await replicas.close()


async def test_waiting_process_asks_api_server_if_the_asking_process_died(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    api_server.put("alice")
    wanted = Wanted(KEYS.answer(ALICE))

    async def never() -> Entry:
        await asyncio.sleep(60)
        raise AssertionError

    dying = asyncio.create_task(replicas.cache()._look_up(wanted, never, 2, []))
    lock = KEYS.lock(wanted.key)
    connection = replicas.connection()
    await until(lambda: connection.run("exists", lambda redis: redis.exists(lock)))
    response = await replicas.reader().one(ALICE)
    assert response.value == summary(api_server.objects[ALICE])
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)


async def test_replica_restricted_to_some_namespaces_serves_no_others(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    api_server.put("alice")
    api_server.put("bob", "others")
    reader = replicas.reader(scopes=("others",))
    async with replicas.leading():
        await until(lambda: mirror_serves(replicas))
        assert (await reader.one(ALICE)).value is None
        assert [item["name"] for item in (await reader.page(Query())).value.summaries] == ["bob"]


async def test_concurrent_requests_cause_one_request_to_api_server_if_redis_fails(api_server: FakeApiServer) -> None:
    api_server.put("alice")
    replicas = InProcessReplicas(None, api_server)
    reader = replicas.reader()
    answers = await asyncio.gather(*(reader.one(ALICE) for _ in range(100)))
    assert all(response.value == summary(api_server.objects[ALICE]) for response in answers)
    assert api_server.requests == {"get": 1}
    assert not replicas.observer.failed
