"""How often the API server reviews a caller, and which reviews are served while it is unavailable."""

import asyncio

import pytest

from support.clock import FakeClock
from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.readapi.review_cache import GRACE, NO, YES, ReviewCache


class ReviewServer:
    """Answers, or fails, in the next iteration of the event loop."""

    def __init__(self) -> None:
        self.answer: bool | Exception = True
        self.asked = 0

    async def ask(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def server() -> ReviewServer:
    return ReviewServer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cache(clock: FakeClock) -> ReviewCache[bool]:
    return ReviewCache(clock)


async def run_ready_tasks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_concurrent_callers_share_one_review(cache: ReviewCache[bool], server: ReviewServer) -> None:
    assert await asyncio.gather(*(cache.get("k", server.ask) for _ in range(100))) == [True] * 100
    assert server.asked == 1
    await cache.get("other", server.ask)
    assert server.asked == 2


async def test_cancelled_caller_does_not_cancel_the_shared_review(cache: ReviewCache[bool], server: ReviewServer) -> None:
    first, second = (asyncio.create_task(cache.get("k", server.ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert server.asked == 1


async def test_review_in_use_is_renewed_before_it_expires(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    await cache.get("k", server.ask)
    clock.now += YES * 0.6
    server.answer = False
    assert await cache.get("k", server.ask)
    await run_ready_tasks()
    assert server.asked == 2
    assert not await cache.get("k", server.ask)


async def test_negative_review_expires_soon(cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock) -> None:
    server.answer = False
    await cache.get("k", server.ask)
    clock.now += NO - 0.1
    assert not await cache.get("k", server.ask)
    assert server.asked == 1
    server.answer = True
    clock.now += 0.2
    assert await cache.get("k", server.ask)


async def test_positive_review_is_served_until_the_grace_ends(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "unavailable")
    clock.now += YES + GRACE - 1
    assert await cache.get("k", server.ask)
    with pytest.raises(Unavailable):
        await cache.get("unknown key", server.ask)
    clock.now += 2
    with pytest.raises(Unavailable):
        await cache.get("k", server.ask)
    server.answer = True
    clock.now += 2
    assert await cache.get("k", server.ask)


async def test_grace_is_configurable(server: ReviewServer, clock: FakeClock) -> None:
    cache: ReviewCache[bool] = ReviewCache(clock, grace=3600)
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "unavailable")
    clock.now += YES + 3600 - 1
    assert await cache.get("k", server.ask)
    clock.now += 2
    with pytest.raises(Unavailable):
        await cache.get("k", server.ask)


async def test_unavailable_server_is_not_asked_for_every_request(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "unavailable")
    clock.now += YES + 1
    for _ in range(100):
        assert await cache.get("k", server.ask)
    assert server.asked == 2
    clock.now += 1.1
    assert await cache.get("k", server.ask)
    await run_ready_tasks()
    assert server.asked == 3


async def test_negative_review_has_no_grace(cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock) -> None:
    server.answer = False
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "unavailable")
    clock.now += NO + 1
    with pytest.raises(Unavailable):
        await cache.get("k", server.ask)


async def test_refusal_is_raised_despite_the_grace(cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock) -> None:
    await cache.get("k", server.ask)
    server.answer = Refused(403, "tokenreviews is forbidden")
    clock.now += YES + 1
    with pytest.raises(Refused):
        await cache.get("k", server.ask)


async def test_silent_server_times_out(cache: ReviewCache[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("userstorage_operator.readapi.review_cache._TIMEOUT", 0.01)
    with pytest.raises(Unavailable, match="no answer"):
        await cache.get("k", _never)


async def _never() -> bool:
    await asyncio.Event().wait()
    return True
