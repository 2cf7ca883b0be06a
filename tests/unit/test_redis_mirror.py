"""The mirror with responses and numbers of objects that are impractical with a real Redis."""

import asyncio
from collections.abc import Callable
from typing import Any

from support.builders import storage_object
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.redis_cache.codec import Codec
from userstorage_operator.redis_cache.keys import Keys
from userstorage_operator.redis_cache.mirror import Mirror

RAW = storage_object("alice", meta={"uid": "uid-alice", "resourceVersion": "7"})


class ScriptedRedis:
    """Returns `answer` to every write, and writes nothing."""

    def __init__(self) -> None:
        self.answer: Any = b"ok"
        self.writes = 0
        self.on_write: Callable[[], None] = lambda: None

    async def run(self, *_: Any) -> Any:
        self.writes += 1
        await asyncio.sleep(0)
        self.on_write()
        return self.answer


class IdenticalUsers:
    """Any number of users with the same object: the tests look at keys only."""

    def __init__(self, count: int) -> None:
        self.names = [Key("users", f"user-{number}") for number in range(count)]

    def keys(self) -> list[Key]:
        return self.names

    def storage(self, _: Key) -> Unstructured:
        return RAW


class FillObserver:
    def __init__(self) -> None:
        self.filled = asyncio.Event()

    def mirror_filled(self) -> None:
        self.filled.set()

    def unexpected(self, *_: Any) -> None:
        raise NotImplementedError

    cache_asked = cache_rejected = unexpected


async def until_filled(mirror: Mirror, observer: FillObserver) -> None:
    """Run the mirror until it has finished a fill. Fails if the mirror ends by itself."""
    running, filled = asyncio.create_task(mirror.run()), asyncio.create_task(observer.filled.wait())
    await asyncio.wait((running, filled), timeout=60, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, filled):
        task.cancel()
    ended, _ = await asyncio.gather(running, filled, return_exceptions=True)
    assert isinstance(ended, asyncio.CancelledError), ended
    assert observer.filled.is_set()


def mirror_of(redis: ScriptedRedis, users: IdenticalUsers, observer: FillObserver) -> Mirror:
    return Mirror(redis, Keys("test"), Codec(b""), users, (None,), 1, observer)


async def test_changes_do_not_restart_a_large_fill() -> None:
    redis, users, observer = ScriptedRedis(), IdenticalUsers(10_400), FillObserver()
    mirror = mirror_of(redis, users, observer)

    def change() -> None:
        for number in (0, 10_399):
            mirror.changed(users.names[number])
        users.names.append(Key("users", f"new-{redis.writes}"))
        mirror.changed(users.names[-1])

    redis.on_write = change
    await until_filled(mirror, observer)
    assert redis.writes <= 60


async def test_mirror_is_filled_after_nonsensical_responses_of_redis() -> None:
    redis, observer = ScriptedRedis(), FillObserver()
    nonsense = iter([None, b"\xff"])
    redis.answer = next(nonsense)

    def next_answer() -> None:
        redis.answer = next(nonsense, b"ok")

    redis.on_write = next_answer
    await until_filled(mirror_of(redis, IdenticalUsers(1), observer), observer)
