"""Before the lease is released, every write is answered, or known to have an unknown outcome."""

import asyncio

import pytest

from userstorage_operator.api.errors import Conflict, NotLeader, Unavailable
from userstorage_operator.kube.write_gate import WriteGate


class FixedFence:
    def __init__(self, remaining: float) -> None:
        self._remaining = remaining

    def remaining(self) -> float:
        return self._remaining


async def write(gate: WriteGate, answer: asyncio.Future[None], timeout: float = 60) -> None:
    with gate.admit(timeout):
        await answer


async def test_close_waits_for_writes_in_flight_and_refuses_further_ones() -> None:
    gate, answer = WriteGate(FixedFence(10)), asyncio.get_running_loop().create_future()
    writing = asyncio.create_task(write(gate, answer))
    await asyncio.sleep(0)
    closing = asyncio.create_task(gate.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    with pytest.raises(NotLeader), gate.admit(60):
        pass
    answer.set_result(None)
    assert await closing
    await writing


@pytest.mark.parametrize(("error", "known"), [(Conflict(409, "moved on"), True), (Unavailable(0, "no answer"), False)])
async def test_outcome_is_known_after_a_refusal_and_unknown_without_an_answer(error: Exception, known: bool) -> None:
    gate, answer = WriteGate(FixedFence(10)), asyncio.get_running_loop().create_future()
    answer.set_exception(error)
    with pytest.raises(type(error)):
        await write(gate, answer)
    assert await gate.close() is known


async def test_outcome_of_a_cancelled_write_is_unknown_until_its_time_limit() -> None:
    gate, answer = WriteGate(FixedFence(10)), asyncio.get_running_loop().create_future()
    writing = asyncio.create_task(write(gate, answer, timeout=0.05))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert not await gate.close()
    await asyncio.sleep(0.06)
    assert await gate.close()


async def test_time_limit_of_a_write_ends_with_the_lease() -> None:
    with WriteGate(FixedFence(3)).admit(10) as limit:
        assert limit == 3
    with pytest.raises(NotLeader), WriteGate(FixedFence(0)).admit(10):
        pass
