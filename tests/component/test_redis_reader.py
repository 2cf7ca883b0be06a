"""What a replica that does not watch answers, with Redis and without, and what that costs the API server."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
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


@pytest.fixture
def api_server() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def replicas(redis_server: RedisServer, api_server: FakeApiServer) -> AsyncIterator[InProcessReplicas]:
    these = InProcessReplicas(redis_server, api_server)
    yield these
    await these.close()


async def led(replicas: InProcessReplicas) -> bool:
    """Whether a new replica answers without the API server."""
    before = replicas.api_server.requests.total()
    await replicas.directory().page(Query())
    return replicas.api_server.requests.total() == before


async def walk(directory: RedisReader, **query: Any) -> list[Unstructured]:
    """All pages of a query, one after the other."""
    found: list[Unstructured] = []
    after: Key | None = None
    while True:
        page: Page = (await directory.page(Query(after=after, **query))).value
        found.extend(page.summaries)
        if page.more_after is None:
            return found
        after = page.more_after


async def test_pages_are_what_a_plain_computation_gives(replicas: InProcessReplicas, api_server: FakeApiServer) -> None:
    dice = random.Random(5)  # noqa: S311  # the same walk every time
    namespaces = ["a", "a-b", "a.b", "a0", "b"]
    for number in range(500):
        name = f"{dice.choice(['x', 'x-', 'x.y', 'x-0', 'y'])}{number}z"
        ready = {"conditions": [{"type": "Ready", "status": dice.choice(["True", "False"])}]}
        api_server.put(name, dice.choice(namespaces), user=f"user-{number % 7}", phase=dice.choice(PHASES), **ready)
    views = sorted((summary(raw) for raw in api_server.objects.values()), key=lambda one: (one["namespace"], one["name"]))
    async with replicas.leading():
        await until(lambda: led(replicas))
        directory, before = replicas.directory(), api_server.requests.total()
        for _ in range(60):
            query: dict[str, Any] = {
                "namespace": dice.choice([None, *namespaces, "nowhere"]),
                "phase": dice.choice([None, *PHASES]),
                "ready": dice.choice([None, True, False]),
                "user": dice.choice([None, None, "user-3", "nobody"]),
                "limit": dice.choice([1, 7, 100, 500]) if dice.random() < 0.8 else 500,
            }
            whole = page_of(iter(views), Query(**(query | {"limit": 1000})))
            if query["limit"] > 1 or len(whole.summaries) < 20:
                assert await walk(directory, **query) == list(whole.summaries), query
        assert api_server.requests.total() == before
    without = InProcessReplicas(None, api_server).directory()
    assert await walk(without, limit=37, user="user-3") == [one for one in views if one["userID"] == "user-3"]


async def test_an_answer_is_as_old_as_the_head(replicas: InProcessReplicas, api_server: FakeApiServer) -> None:
    api_server.put("alice")
    async with replicas.leading():
        await until(lambda: led(replicas))
        directory = replicas.directory()
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            told = await directory.one(ALICE)
            assert told.age < 2
            assert not told.stale
            await asyncio.sleep(0.1)
    assert api_server.requests["get"] == 0


async def test_without_a_leader_the_api_server_is_asked_for_all_at_once(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    for number in range(50):
        api_server.put(f"user-{number}", f"namespace-{number}")
    async with replicas.leading():
        await until(lambda: led(replicas))
    await until(lambda: _not(led(replicas)))
    before, directory = api_server.requests["list"], replicas.directory()
    answers = await asyncio.gather(*(directory.page(Query(namespace=f"namespace-{number}")) for number in range(50)))
    assert [page.value.summaries[0]["name"] for page in answers] == [f"user-{number}" for number in range(50)]
    assert api_server.requests["list"] == before + 1


async def _not(answer: Any) -> bool:
    return not await answer


def poison(server: RedisServer, api_server: FakeApiServer, kind: str) -> str:
    """Put something else where alice's view is; the reason to be counted."""
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
            server.cli("set", key, old_view(api_server, alice))
            return "outdated"


def old_view(api_server: FakeApiServer, uid: str) -> str:
    """What was true of alice once, sealed as it was then."""
    old = summary(api_server.objects[ALICE]) | {"resourceVersion": "1", "phase": "Failed"}
    return CODEC.seal(KEYS.summary(uid), Entry.of(old, term=1, time=0.0)).decode()


@pytest.mark.parametrize(
    "kind",
    ["of another object", "future generation", "garbage", "truncated", "other schema", "10 MiB", "a hash", "put back"],
)
async def test_a_poisoned_view_is_counted_and_mended_and_never_served(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, kind: str
) -> None:
    for name in ("alice", "bob"):
        api_server.put(name, phase="Ready")
    true = summary(api_server.objects[ALICE])
    async with replicas.leading():
        await until(lambda: led(replicas))
        reason = poison(redis_server, api_server, kind)
        sent = int(_info(redis_server, "total_net_output_bytes"))
        told = await replicas.directory().one(ALICE)
        assert told.value == true
        assert set(replicas.observer.rejected) == {reason}
        assert api_server.requests["get"] == 1
        assert int(_info(redis_server, "total_net_output_bytes")) - sent < 100_000, "it was transferred"
        assert (await replicas.directory().page(Query())).value.summaries[0] == true
        assert api_server.requests["get"] == 1, "it is mended"


def _info(server: RedisServer, name: str) -> str:
    return dict(line.split(":") for line in server.cli("info", "stats").splitlines() if ":" in line)[name].strip()


@pytest.mark.parametrize("what", ["row", "head"])
async def test_a_forged_index_is_not_believed(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer, what: str
) -> None:
    api_server.put("alice", phase="Ready")
    async with replicas.leading():
        await until(lambda: led(replicas))
    if what == "row":
        script = "local m = redis.call('ZRANGE', KEYS[1], 0, 0)[1]; redis.call('ZREM', KEYS[1], m); "
        script += "redis.call('ZADD', KEYS[1], 0, (string.gsub(m, 'Ready', 'Reads')))"
        redis_server.cli("eval", script, "1", KEYS.index)
    else:
        redis_server.cli("del", KEYS.index)
    redis_server.cli("eval", "redis.call('HSET', KEYS[1], 'time', redis.call('TIME')[1])", "1", KEYS.head)
    told = await replicas.directory().page(Query())
    assert told.value.summaries == (summary(api_server.objects[ALICE]),)
    assert api_server.requests["list"] >= 1
    assert replicas.observer.rejected.total() >= 1


async def test_with_redis_killed_the_api_server_answers_within_bounds(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    for number in range(30):
        api_server.put(f"user-{number:02}", phase="Ready")
    async with replicas.leading():
        await until(lambda: led(replicas))
        directory = replicas.directory()
        redis_server.kill()
        api_server.requests.clear()
        began = time.monotonic()
        for _ in range(20):
            pages = await asyncio.gather(*(directory.page(Query(user=f"user-{number:02}")) for number in range(30)))
            assert all(len(page.value.summaries) == 1 for page in pages)
            ones = await asyncio.gather(*(directory.one(Key("users", f"user-{number:02}")) for number in range(30)))
            assert all(told.value is not None and not told.stale for told in ones)
        assert api_server.requests["list"] <= 1 + (time.monotonic() - began) / 2
        assert api_server.requests["get"] == 0, "the list knows them"


async def test_with_redis_and_api_server_away_the_last_that_was_known(
    replicas: InProcessReplicas, api_server: FakeApiServer, redis_server: RedisServer
) -> None:
    api_server.put("alice", phase="Ready")
    directory = replicas.directory()
    for ask in (directory.one(ALICE), directory.page(Query())):
        assert not (await ask).stale
    redis_server.kill()
    api_server.unavailable = True
    await until(lambda: _stale(directory))
    one, page = await directory.one(ALICE), await directory.page(Query())
    assert one.value is not None
    assert one.value["phase"] == page.value.summaries[0]["phase"] == "Ready"
    assert page.stale
    assert 1 <= one.age < 10
    assert 2 <= page.age < 10
    with pytest.raises(Unavailable):
        await directory.one(Key("users", "bob"))
    with pytest.raises(Unavailable):
        await replicas.directory().page(Query())


async def _stale(directory: RedisReader) -> bool:
    return (await directory.one(ALICE)).stale and (await directory.page(Query())).stale


async def test_without_leader_and_api_server_what_the_leader_left(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    api_server.put("alice", phase="Ready")
    async with replicas.leading():
        await until(lambda: led(replicas))
    api_server.unavailable = True
    directory = replicas.directory()
    await until(lambda: _stale(directory))
    told = await directory.one(ALICE)
    assert told.value == summary(api_server.objects[ALICE])
    assert told.age >= 3


async def test_a_stampede_of_processes_is_one_fetch(new_redis: Callable[..., RedisServer], api_server: FakeApiServer) -> None:
    replicas = InProcessReplicas(new_redis(), api_server)
    api_server.put("alice")
    api_server.delay = 0.3
    caches = [replicas.cache() for _ in range(5)]

    async def fetch() -> Entry:
        return Entry.of(summary(await api_server.get(None, "users", "alice")), term=0, time=time.time())  # type: ignore[arg-type]

    wanted = Wanted(KEYS.answer(ALICE))
    answers = await asyncio.gather(*(cache.get_or_fetch(wanted, fetch, 2) for cache in caches for _ in range(20)))
    assert all(told.value == summary(api_server.objects[ALICE]) for told in answers)
    assert api_server.requests["get"] == 1
    assert replicas.observer.asked == {"miss": 1, "hit": 99}
    await replicas.close()


async def test_who_waits_for_a_process_that_died_fetches_itself(replicas: InProcessReplicas, api_server: FakeApiServer) -> None:
    api_server.put("alice")
    wanted = Wanted(KEYS.answer(ALICE))

    async def never() -> Entry:
        await asyncio.sleep(60)
        raise AssertionError

    dying = asyncio.create_task(replicas.cache()._look_up(wanted, never, 2, []))
    lock = KEYS.lock(wanted.key)
    connection = replicas.connection()
    await until(lambda: connection.run("exists", lambda redis: redis.exists(lock)))
    told = await replicas.directory().one(ALICE)
    assert told.value == summary(api_server.objects[ALICE])
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)


async def test_a_replica_of_some_namespaces_answers_for_no_others(
    replicas: InProcessReplicas, api_server: FakeApiServer
) -> None:
    api_server.put("alice")
    api_server.put("bob", "others")
    directory = replicas.directory(scopes=("others",))
    async with replicas.leading():
        await until(lambda: led(replicas))
        assert (await directory.one(ALICE)).value is None
        assert [one["name"] for one in (await directory.page(Query())).value.summaries] == ["bob"]


async def test_without_redis_one_process_asks_once_a_second(api_server: FakeApiServer) -> None:
    api_server.put("alice")
    replicas = InProcessReplicas(None, api_server)
    directory = replicas.directory()
    answers = await asyncio.gather(*(directory.one(ALICE) for _ in range(100)))
    assert all(told.value == summary(api_server.objects[ALICE]) for told in answers)
    assert api_server.requests == {"get": 1}
    assert not replicas.observer.failed
