"""Concurrent calls with one key are one call."""

import asyncio
import gc
from typing import Any

import pytest

from userstorage_operator.runtime.single_flight import SingleFlight


class Calls:
    """A call that the test answers."""

    def __init__(self) -> None:
        self.started = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.started += 1
        return await asyncio.shield(self.answer)


async def test_concurrent_callers_share_one_call() -> None:
    flights, calls = SingleFlight[str, str](), Calls()
    callers = [asyncio.create_task(flights.run("key", calls)) for _ in range(3)]
    other = asyncio.create_task(flights.run("other key", calls))
    await asyncio.sleep(0)
    calls.answer.set_result("answer")
    assert await asyncio.gather(*callers, other) == ["answer"] * 4
    assert calls.started == 2


async def test_a_caller_after_the_end_of_a_call_starts_a_new_call() -> None:
    flights, calls = SingleFlight[str, str](), Calls()
    calls.answer.set_result("answer")
    await flights.run("key", calls)
    await flights.run("key", calls)
    assert calls.started == 2


async def test_a_cancelled_caller_does_not_cancel_the_call() -> None:
    flights, calls = SingleFlight[str, str](), Calls()
    first, second = (asyncio.create_task(flights.run("key", calls)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    calls.answer.set_result("answer")
    assert await second == "answer"
    assert calls.started == 1


async def test_an_error_reaches_every_caller_and_is_not_logged_without_one() -> None:
    flights, calls, logged = SingleFlight[str, str](), Calls(), list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    calls.answer.set_exception(ValueError("failed"))
    outcomes = await asyncio.gather(*(flights.run("key", calls) for _ in range(2)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["failed"] * 2
    await asyncio.wait([flights.start("key", calls)])
    with pytest.raises(ValueError, match="failed"):
        await flights.run("key", calls)
    gc.collect()
    assert logged == []
