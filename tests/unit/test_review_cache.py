"""How often the API server is asked about callers, and what holds while it cannot be."""

import asyncio

import pytest

from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.readapi.review_cache import GRACE, NO, YES, ReviewCache


class ReviewServer:
    """Answers after a turn of the loop, or fails."""

    def __init__(self) -> None:
        self.answer: bool | Exception = True
        self.asked = 0

    async def ask(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> ReviewServer:
    return ReviewServer()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> ReviewCache[bool]:
    return ReviewCache(clock)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_at_once_are_one_question(cache: ReviewCache[bool], server: ReviewServer) -> None:
    assert await asyncio.gather(*(cache.get("k", server.ask) for _ in range(100))) == [True] * 100
    assert server.asked == 1
    await cache.get("other", server.ask)
    assert server.asked == 2


async def test_the_impatient_do_not_end_a_question_that_others_wait_for(cache: ReviewCache[bool], server: ReviewServer) -> None:
    first, second = (asyncio.create_task(cache.get("k", server.ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert server.asked == 1


async def test_what_is_used_is_asked_ahead_of_time(cache: ReviewCache[bool], server: ReviewServer, clock: Clock) -> None:
    await cache.get("k", server.ask)
    clock.now += YES * 0.6
    server.answer = False
    assert await cache.get("k", server.ask)
    await settle()
    assert server.asked == 2
    assert not await cache.get("k", server.ask)


async def test_a_no_is_soon_asked_again(cache: ReviewCache[bool], server: ReviewServer, clock: Clock) -> None:
    server.answer = False
    await cache.get("k", server.ask)
    clock.now += NO - 0.1
    assert not await cache.get("k", server.ask)
    assert server.asked == 1
    server.answer = True
    clock.now += 0.2
    assert await cache.get("k", server.ask)


async def test_a_yes_outlives_an_unavailable_server_for_the_grace_only(
    cache: ReviewCache[bool], server: ReviewServer, clock: Clock
) -> None:
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += YES + GRACE - 1
    assert await cache.get("k", server.ask)
    with pytest.raises(Unavailable):
        await cache.get("never asked before", server.ask)
    clock.now += 2
    with pytest.raises(Unavailable):
        await cache.get("k", server.ask)
    server.answer = True
    clock.now += 2
    assert await cache.get("k", server.ask)


async def test_the_grace_may_be_longer(server: ReviewServer, clock: Clock) -> None:
    cache: ReviewCache[bool] = ReviewCache(clock, grace=3600)
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += YES + 3600 - 1
    assert await cache.get("k", server.ask)
    clock.now += 2
    with pytest.raises(Unavailable):
        await cache.get("k", server.ask)


async def test_a_server_that_is_away_is_not_asked_for_every_request(
    cache: ReviewCache[bool], server: ReviewServer, clock: Clock
) -> None:
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += YES + 1
    for _ in range(100):
        assert await cache.get("k", server.ask)
    assert server.asked == 2
    clock.now += 1.1
    assert await cache.get("k", server.ask)
    await settle()
    assert server.asked == 3


async def test_a_no_has_no_grace(cache: ReviewCache[bool], server: ReviewServer, clock: Clock) -> None:
    server.answer = False
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += NO + 1
    with pytest.raises(Unavailable):
        await cache.get("k", server.ask)


async def test_a_refusal_is_no_outage(cache: ReviewCache[bool], server: ReviewServer, clock: Clock) -> None:
    await cache.get("k", server.ask)
    server.answer = Refused(403, "tokenreviews is forbidden")
    clock.now += YES + 1
    with pytest.raises(Refused):
        await cache.get("k", server.ask)


async def test_a_silent_server_is_given_up(cache: ReviewCache[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("userstorage_operator.readapi.review_cache._TIMEOUT", 0.01)
    with pytest.raises(Unavailable, match="no answer"):
        await cache.get("k", _never)


async def _never() -> bool:
    await asyncio.Event().wait()
    return True
