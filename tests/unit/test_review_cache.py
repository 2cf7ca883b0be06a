"""How often the API server is asked about callers, and what holds while it cannot be."""

import asyncio

import pytest

from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.readapi.review_cache import GRACE, NO, YES, ReviewCache


class Server:
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
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recall(clock: Clock) -> ReviewCache[bool]:
    return ReviewCache(clock)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_many_at_once_are_one_question(recall: ReviewCache[bool], server: Server) -> None:
    assert await asyncio.gather(*(recall.get("k", server.ask) for _ in range(100))) == [True] * 100
    assert server.asked == 1
    await recall.get("other", server.ask)
    assert server.asked == 2


async def test_the_impatient_do_not_end_a_question_that_others_wait_for(recall: ReviewCache[bool], server: Server) -> None:
    first, second = (asyncio.create_task(recall.get("k", server.ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert server.asked == 1


async def test_what_is_used_is_asked_ahead_of_time(recall: ReviewCache[bool], server: Server, clock: Clock) -> None:
    await recall.get("k", server.ask)
    clock.now += YES * 0.6
    server.answer = False
    assert await recall.get("k", server.ask)
    await settle()
    assert server.asked == 2
    assert not await recall.get("k", server.ask)


async def test_a_no_is_soon_asked_again(recall: ReviewCache[bool], server: Server, clock: Clock) -> None:
    server.answer = False
    await recall.get("k", server.ask)
    clock.now += NO - 0.1
    assert not await recall.get("k", server.ask)
    assert server.asked == 1
    server.answer = True
    clock.now += 0.2
    assert await recall.get("k", server.ask)


async def test_a_yes_outlives_an_unavailable_server_for_the_grace_only(
    recall: ReviewCache[bool], server: Server, clock: Clock
) -> None:
    await recall.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += YES + GRACE - 1
    assert await recall.get("k", server.ask)
    with pytest.raises(Unavailable):
        await recall.get("never asked before", server.ask)
    clock.now += 2
    with pytest.raises(Unavailable):
        await recall.get("k", server.ask)
    server.answer = True
    clock.now += 2
    assert await recall.get("k", server.ask)


async def test_the_grace_may_be_longer(server: Server, clock: Clock) -> None:
    recall: ReviewCache[bool] = ReviewCache(clock, grace=3600)
    await recall.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += YES + 3600 - 1
    assert await recall.get("k", server.ask)
    clock.now += 2
    with pytest.raises(Unavailable):
        await recall.get("k", server.ask)


async def test_a_server_that_is_away_is_not_asked_for_every_request(
    recall: ReviewCache[bool], server: Server, clock: Clock
) -> None:
    await recall.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += YES + 1
    for _ in range(100):
        assert await recall.get("k", server.ask)
    assert server.asked == 2
    clock.now += 1.1
    assert await recall.get("k", server.ask)
    await settle()
    assert server.asked == 3


async def test_a_no_has_no_grace(recall: ReviewCache[bool], server: Server, clock: Clock) -> None:
    server.answer = False
    await recall.get("k", server.ask)
    server.answer = Unavailable(503, "away")
    clock.now += NO + 1
    with pytest.raises(Unavailable):
        await recall.get("k", server.ask)


async def test_a_refusal_is_no_outage(recall: ReviewCache[bool], server: Server, clock: Clock) -> None:
    await recall.get("k", server.ask)
    server.answer = Refused(403, "tokenreviews is forbidden")
    clock.now += YES + 1
    with pytest.raises(Refused):
        await recall.get("k", server.ask)


async def test_a_silent_server_is_given_up(recall: ReviewCache[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("userstorage_operator.readapi.review_cache._TIMEOUT", 0.01)
    with pytest.raises(Unavailable, match="no answer"):
        await recall.get("k", _never)


async def _never() -> bool:
    await asyncio.Event().wait()
    return True
