"""Deduplication, delays and backoff of the work queue."""

import asyncio

import pytest

from userstorage_operator.runtime.fair_queue import HIGH_PRIORITY, LOW_PRIORITY
from userstorage_operator.runtime.workqueue import WorkQueue


def queue() -> WorkQueue[str]:
    return WorkQueue(lambda failures: failures * 0.02)


async def test_key_that_is_added_repeatedly_is_queued_once() -> None:
    keys = queue()
    for _ in range(20):
        keys.add("a")
    keys.add("b")
    assert [await keys.get(), await keys.get()] == ["a", "b"]
    assert len(keys) == 0


async def test_key_added_while_it_is_processed_is_queued_again_when_done() -> None:
    keys = queue()
    keys.add("a")
    await keys.get()
    keys.add("a")
    assert len(keys) == 0
    keys.done("a")
    assert await keys.get() == "a"


async def test_failed_key_is_queued_after_a_backoff_and_changed_key_at_once() -> None:
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


async def test_minimum_delay_extends_the_backoff() -> None:
    keys = queue()
    keys.add_rate_limited("a", min_delay=0.2)
    await asyncio.sleep(0.1)
    assert len(keys) == 0
    await asyncio.wait_for(keys.get(), 1)


async def test_key_added_with_two_delays_is_queued_after_the_shorter() -> None:
    keys = queue()
    keys.add_after("a", 0.01)
    keys.add_after("a", 60)
    assert await asyncio.wait_for(keys.get(), 1) == "a"


async def test_key_that_is_queued_already_is_not_queued_again_later() -> None:
    keys = queue()
    keys.add("a")
    keys.add_after("a", 0.01)
    assert await keys.get() == "a"
    keys.done("a")
    keys.add_after("b", 0.02)
    assert await asyncio.wait_for(keys.get(), 1) == "b"


async def test_oldest_wait_is_how_long_the_first_queued_key_has_waited() -> None:
    keys = queue()
    assert keys.oldest_wait() == 0
    keys.add("a")
    await asyncio.sleep(0.03)
    assert keys.oldest_wait() >= 0.03


async def test_resumed_key_keeps_failures_and_backoff_of_the_earlier_process() -> None:
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


async def test_failures_of_this_process_take_precedence_over_resumed_failures() -> None:
    keys = queue()
    keys.add_rate_limited("a")
    keys.resume("a", 9, 60)
    assert keys.num_requeues("a") == 1
    assert await asyncio.wait_for(keys.get(), 1) == "a"
    keys.resume("b", 3, 60)
    keys.add("b")
    assert await asyncio.wait_for(keys.get(), 1) == "b", "a change must not wait"


async def test_add_unless_backing_off_does_not_shorten_the_backoff() -> None:
    keys = queue()
    keys.resume("a", 3, 60)
    keys.add_after("b", 60)
    for key in "ab":
        keys.add_unless_backing_off(key)
    assert len(keys) == 1
    assert await keys.get() == "b"


async def test_on_requeue_is_called_for_failures_and_forget() -> None:
    calls: list[tuple[str, int, float]] = []
    keys: WorkQueue[str] = WorkQueue(float, lambda *call: calls.append(call))
    keys.add_rate_limited("a")
    keys.add_rate_limited("a", min_delay=9)
    keys.forget("a")
    keys.forget("a")
    assert calls == [("a", 1, 1.0), ("a", 2, 9), ("a", 0, 0.0)]


async def test_keys_that_keep_failing_share_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    keys: WorkQueue[int] = WorkQueue(lambda _: 60.0)
    for _ in range(5):
        assert {keys.add_rate_limited(key) for key in range(10_000)} == {60.0}
    delays = [keys.add_rate_limited(key) for key in range(10_000)]
    assert delays == sorted(delays)
    assert delays[0] == 60.0
    assert delays[-1] == pytest.approx(60 + 10_000 / 50, abs=1)
    keys.forget(0)
    assert keys.add_rate_limited(0) == 60.0, "a key that has succeeded meanwhile starts over"


async def test_key_is_served_with_the_highest_priority_it_was_added_with() -> None:
    keys = queue()
    keys.add("a")
    keys.add("b", HIGH_PRIORITY)
    keys.add("c", LOW_PRIORITY)
    keys.add("c", HIGH_PRIORITY)
    keys.add("b", LOW_PRIORITY)
    assert [await keys.get() for _ in range(3)] == ["b", "c", "a"]


async def test_key_added_while_it_is_processed_keeps_the_highest_of_these_priorities() -> None:
    keys = queue()
    keys.add("a")
    await keys.get()
    keys.add("a", HIGH_PRIORITY)
    keys.add("a", LOW_PRIORITY)
    keys.add("b")
    keys.done("a")
    assert [await keys.get(), await keys.get()] == ["a", "b"]


async def test_retry_keeps_the_priority() -> None:
    keys: WorkQueue[str] = WorkQueue(lambda _: 0.0)
    keys.add("a", HIGH_PRIORITY)
    await keys.get()
    keys.add_rate_limited("a")
    keys.done("a")
    keys.add("b")
    await asyncio.sleep(0.01)
    assert [await keys.get(), await keys.get()] == ["a", "b"]


async def test_oldest_wait_is_that_of_the_key_that_priority_and_turns_leave_behind() -> None:
    keys: WorkQueue[str] = WorkQueue(lambda _: 0.0, flow_of=lambda key: key[0])
    keys.add("b1", LOW_PRIORITY)
    await asyncio.sleep(0.03)
    for key in ("a1", "a2", "b2"):
        keys.add(key, HIGH_PRIORITY)
    assert [await keys.get() for _ in range(3)] == ["a1", "b2", "a2"]
    assert keys.oldest_wait() >= 0.03


async def test_queue_that_is_shut_down_returns_no_key() -> None:
    keys = queue()
    for key in ("served", "waiting"):
        keys.add(key)
    keys.add_after("delayed", 0.0)
    assert await keys.get() == "served"
    keys.add("served")
    keys.shut_down()
    keys.done("served")
    keys.add("new")
    keys.add_rate_limited("failed")
    assert len(keys) == 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(keys.get(), 0.1)
