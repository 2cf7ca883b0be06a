"""How often the API server reviews a caller, and which reviews are served while it is unavailable."""

import asyncio

import pytest

from support.clock import FakeClock
from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.readapi.review_cache import GRACE, NO, YES, ReviewCache
from userstorage_operator.readapi.review_lane import CONCURRENCY, WAITING, WAITING_OF_SOURCE, NotAsked


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


async def test_positive_review_is_served_until_the_grace_period_ends(
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


async def test_grace_period_is_configurable(server: ReviewServer, clock: FakeClock) -> None:
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


async def test_negative_review_has_no_grace_period(cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock) -> None:
    server.answer = False
    await cache.get("k", server.ask)
    server.answer = Unavailable(503, "unavailable")
    clock.now += NO + 1
    with pytest.raises(Unavailable):
        await cache.get("k", server.ask)


async def test_refused_review_is_raised_even_during_the_grace_period(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    await cache.get("k", server.ask)
    server.answer = Refused(403, "tokenreviews is forbidden")
    clock.now += YES + 1
    with pytest.raises(Refused):
        await cache.get("k", server.ask)


async def test_review_without_an_answer_times_out(cache: ReviewCache[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("userstorage_operator.readapi.review_lane.TIMEOUT", 0.01)
    with pytest.raises(Unavailable, match="no answer"):
        await cache.get("k", _never)


async def _never() -> bool:
    await asyncio.Event().wait()
    return True


class HangingServer:
    """Answers only when the test says so, and records the largest number of reviews at a time."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.in_flight = self.most = 0

    async def ask(self) -> bool:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await self.release.wait()
        finally:
            self.in_flight -= 1
        return False


async def flood(cache: ReviewCache[bool], server: HangingServer, sources: int, each: int) -> list["asyncio.Task[bool]"]:
    """Send invented tokens from so many addresses, and return the requests when all have reached the cache."""
    sent = [
        asyncio.create_task(cache.get(f"invented {source} {number}", server.ask, f"address {source}"))
        for number in range(each)
        for source in range(sources)
    ]
    await run_ready_tasks()
    return sent


async def outcomes(tasks: list["asyncio.Task[bool]"]) -> tuple[int, int]:
    """Return how many requests were answered, and for how many no review was requested."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return sum(result is False for result in results), sum(isinstance(result, NotAsked) for result in results)


async def test_known_callers_are_served_and_renewed_under_a_flood_of_invented_tokens(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    for number in range(100):
        assert await cache.get(f"backend {number}", server.ask, "backend")
    hanging = HangingServer()
    sent = await flood(cache, hanging, sources=20, each=50)
    for renewals, age in ((1, YES * 0.6), (2, YES + 1)):  # in the background, then waited for
        clock.now += age
        for number in range(100):
            assert await cache.get(f"backend {number}", server.ask, "backend")
        for _ in range(500):
            await asyncio.sleep(0)
        assert server.asked == 100 * (1 + renewals)
    hanging.release.set()
    await outcomes(sent)


async def test_invented_tokens_do_not_displace_known_callers(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    assert await cache.get("backend", server.ask)
    server.answer = False
    for number in range(5000):
        assert not await cache.get(f"invented {number}", server.ask)
    server.answer, asked = Unavailable(503, "unavailable"), server.asked
    assert await cache.get("backend", server.ask)
    assert server.asked == asked


async def test_reviews_of_unknown_tokens_are_bounded(cache: ReviewCache[bool]) -> None:
    server = HangingServer()
    sent = await flood(cache, server, sources=1, each=1000)
    assert server.most == CONCURRENCY
    server.release.set()
    assert await outcomes(sent) == (WAITING_OF_SOURCE, 1000 - WAITING_OF_SOURCE)


async def test_callers_with_one_invented_token_are_bounded(cache: ReviewCache[bool]) -> None:
    server = HangingServer()
    sent = [asyncio.create_task(cache.get("invented", server.ask, f"address {number}")) for number in range(500)]
    await run_ready_tasks()
    assert sum(not task.done() for task in sent) == 192
    server.release.set()
    assert await outcomes(sent) == (192, 308)


async def test_new_caller_is_served_while_other_addresses_flood(cache: ReviewCache[bool], server: ReviewServer) -> None:
    hanging = HangingServer()
    sent = await flood(cache, hanging, sources=16, each=100)
    assert sum(not task.done() for task in sent) <= 3 * WAITING
    new = asyncio.create_task(cache.get("new", server.ask, "backend"))
    await run_ready_tasks()
    assert not new.done()
    hanging.release.set()
    assert await new
    await outcomes(sent)


async def test_one_failure_pauses_only_its_own_review(cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock) -> None:
    assert await cache.get("known", server.ask)
    failing = ReviewServer()
    failing.answer = Unavailable(500, "the webhook of this token failed")
    with pytest.raises(Unavailable):
        await cache.get("odd", failing.ask)
    assert await cache.get("new", server.ask)
    with pytest.raises(NotAsked):
        await cache.get("odd", failing.ask)
    assert failing.asked == 1
    clock.now += YES + 1
    asked = server.asked
    assert await cache.get("known", server.ask)
    assert server.asked == asked + 1


async def test_several_failures_in_a_row_pause_all_new_reviews(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    server.answer = Unavailable(503, "unavailable")
    for number in range(100):
        with pytest.raises(Unavailable):
            await cache.get(number, server.ask)
    assert server.asked == 3
    server.answer = True
    clock.now += 1.1
    assert await cache.get("new", server.ask)


async def test_failures_of_unknown_tokens_do_not_pause_known_callers(
    cache: ReviewCache[bool], server: ReviewServer, clock: FakeClock
) -> None:
    assert await cache.get("known", server.ask)
    failing = ReviewServer()
    failing.answer = Unavailable(500, "failed")
    for number in range(10):
        with pytest.raises(Unavailable):
            await cache.get(number, failing.ask)
    clock.now += YES + 1
    server.answer = False
    assert not await cache.get("known", server.ask)
