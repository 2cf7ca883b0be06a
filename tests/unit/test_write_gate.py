"""Before a lease is given up, everything that was written has been answered, or that is known to be in doubt."""

import asyncio

import pytest

from userstorage_operator.api.errors import Conflict, NotLeader, Unavailable
from userstorage_operator.kube.write_gate import WriteGate


class Gate:
    def __init__(self, remaining: float) -> None:
        self._remaining = remaining

    def remaining(self) -> float:
        return self._remaining


async def write(gate: WriteGate, answer: asyncio.Future[None], longest: float = 60) -> None:
    with gate.admit(longest):
        await answer


async def test_a_closed_gate_waits_for_what_is_under_way_and_lets_nothing_more_through() -> None:
    gate, answer = WriteGate(Gate(10)), asyncio.get_running_loop().create_future()
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


@pytest.mark.parametrize(("error", "settled"), [(Conflict(409, "moved on"), True), (Unavailable(0, "no answer"), False)])
async def test_a_refusal_settles_a_write_and_silence_does_not(error: Exception, settled: bool) -> None:
    gate, answer = WriteGate(Gate(10)), asyncio.get_running_loop().create_future()
    answer.set_exception(error)
    with pytest.raises(type(error)):
        await write(gate, answer)
    assert await gate.close() is settled


async def test_a_write_that_was_cancelled_is_in_doubt_until_the_server_must_have_given_up() -> None:
    gate, answer = WriteGate(Gate(10)), asyncio.get_running_loop().create_future()
    writing = asyncio.create_task(write(gate, answer, longest=0.05))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert not await gate.close()
    await asyncio.sleep(0.06)
    assert await gate.close()


async def test_no_write_gets_more_time_than_the_term_has() -> None:
    with WriteGate(Gate(3)).admit(10) as limit:
        assert limit == 3
    with pytest.raises(NotLeader), WriteGate(Gate(0)).admit(10):
        pass
