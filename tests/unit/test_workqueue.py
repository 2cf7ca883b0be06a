"""Each key once, never twice at a time, later or after a pause."""

import asyncio

from userstorage_operator.runtime.workqueue import WorkQueue


def queue() -> WorkQueue[str]:
    return WorkQueue(lambda failures: failures * 0.02)


async def test_a_burst_of_one_key_is_one_piece_of_work() -> None:
    keys = queue()
    for _ in range(20):
        keys.add("a")
    keys.add("b")
    assert [await keys.get(), await keys.get()] == ["a", "b"]
    assert len(keys) == 0


async def test_a_key_added_while_it_is_worked_on_comes_again_afterwards() -> None:
    keys = queue()
    keys.add("a")
    await keys.get()
    keys.add("a")
    assert len(keys) == 0
    keys.done("a")
    assert await keys.get() == "a"


async def test_failures_wait_longer_each_time_and_a_change_does_not_wait() -> None:
    keys = queue()
    keys.add_rate_limited("a")
    keys.add_rate_limited("a")
    assert keys.num_requeues("a") == 2
    assert len(keys) == 0
    await asyncio.wait_for(keys.get(), 1)
    keys.done("a")
    keys.add_rate_limited("a")
    keys.add("a")
    assert len(keys) == 1


async def test_the_servers_wish_to_be_left_in_peace_counts() -> None:
    keys = queue()
    keys.add_rate_limited("a", min_delay=0.2)
    await asyncio.sleep(0.1)
    assert len(keys) == 0
    await asyncio.wait_for(keys.get(), 1)


async def test_of_two_delays_the_shorter_counts() -> None:
    keys = queue()
    keys.add_after("a", 0.01)
    keys.add_after("a", 60)
    assert await asyncio.wait_for(keys.get(), 1) == "a"


async def test_the_oldest_wait_is_that_of_the_head() -> None:
    keys = queue()
    assert keys.oldest_wait() == 0
    keys.add("a")
    await asyncio.sleep(0.03)
    assert keys.oldest_wait() >= 0.03


async def test_failures_of_an_earlier_process_go_on_and_their_pause_too() -> None:
    keys = queue()
    for key in "abc":
        keys.add(key)
    keys.resume("a", 4, 0.05)
    assert keys.num_requeues("a") == 4
    assert [await keys.get(), await keys.get()] == ["b", "c"]
    assert len(keys) == 0
    assert await asyncio.wait_for(keys.get(), 1) == "a"
    keys.done("a")
    keys.add("d")
    assert await asyncio.wait_for(keys.get(), 1) == "d"


async def test_what_this_process_saw_counts_more_than_what_it_is_told() -> None:
    keys = queue()
    keys.add_rate_limited("a")
    keys.resume("a", 9, 60)
    assert keys.num_requeues("a") == 1
    assert await asyncio.wait_for(keys.get(), 1) == "a"
    keys.resume("b", 3, 60)
    keys.add("b")
    assert await asyncio.wait_for(keys.get(), 1) == "b", "a change does not wait"


async def test_a_routine_look_does_not_cut_a_pause_short() -> None:
    keys = queue()
    keys.resume("a", 3, 60)
    keys.add_after("b", 60)
    for key in "ab":
        keys.add_unless_backing_off(key)
    assert len(keys) == 1
    assert await keys.get() == "b"


async def test_failures_and_their_end_are_told() -> None:
    told: list[tuple[str, int, float]] = []
    keys: WorkQueue[str] = WorkQueue(float, lambda *what: told.append(what))
    keys.add_rate_limited("a")
    keys.add_rate_limited("a", min_delay=9)
    keys.forget("a")
    keys.forget("a")
    assert told == [("a", 1, 1.0), ("a", 2, 9), ("a", 0, 0.0)]
