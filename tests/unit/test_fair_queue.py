"""The order of the work queue: no key starves, flows take turns, and the higher priority goes first."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from userstorage_operator.runtime.fair_queue import (
    DEFAULT_PRIORITY,
    HIGH_PRIORITY,
    LOW_PRIORITY,
    PASSED_OVER_MAX,
    FairQueue,
)

PRIORITIES = (HIGH_PRIORITY, DEFAULT_PRIORITY, LOW_PRIORITY)
Waiting = tuple[str, int]
"""Flow, and the number of the key: no two are equal."""

flows = st.sampled_from("abc")
priorities = st.sampled_from(PRIORITIES)
pushes = st.lists(st.tuples(flows, priorities), max_size=60)


def queue_of(pushed: list[tuple[str, int]]) -> tuple[FairQueue[Waiting], list[tuple[Waiting, int]]]:
    queue: FairQueue[Waiting] = FairQueue(lambda key: key[0])
    keys = [((flow, number), priority) for number, (flow, priority) in enumerate(pushed)]
    for number, (key, priority) in enumerate(keys):
        queue.push(key, priority, float(number))
    return queue, keys


def drain(queue: FairQueue[Waiting]) -> list[tuple[Waiting, int]]:
    return [queue.pop() for _ in range(len(queue))]


@given(pushes)
def test_every_key_is_served_once_with_its_priority(pushed: list[tuple[str, int]]) -> None:
    queue, keys = queue_of(pushed)
    assert sorted(drain(queue)) == sorted(keys)
    assert queue.oldest() is None
    with pytest.raises(KeyError):
        queue.pop()


@given(pushes)
def test_keys_of_a_flow_are_served_in_order_of_arrival(pushed: list[tuple[str, int]]) -> None:
    queue, _ = queue_of(pushed)
    served = drain(queue)
    for flow in "abc":
        for priority in PRIORITIES:
            numbers = [number for (of, number), served_at in served if of == flow and served_at == priority]
            assert numbers == sorted(numbers)


@given(pushes)
def test_flows_of_a_priority_take_turns(pushed: list[tuple[str, int]]) -> None:
    queue, keys = queue_of(pushed)
    served = drain(queue)
    for priority in PRIORITIES:
        left = [flow for (flow, _), of in keys if of == priority]
        turns: list[str] = []
        for flow in [flow for (flow, _), served_at in served if served_at == priority]:
            waiting = set(left)
            # Since this flow was served before, each other one that had keys all the time was served.
            assert flow not in turns or waiting <= set(turns[turns.index(flow) :])
            turns = [*(other for other in turns if other != flow), flow]
            left.remove(flow)


@given(pushes)
def test_lower_priority_is_served_only_if_it_was_passed_over(pushed: list[tuple[str, int]]) -> None:
    queue, keys = queue_of(pushed)
    left = [priority for _, priority in keys]
    passed_over = dict.fromkeys(PRIORITIES, 0)
    for _, priority in drain(queue):
        assert priority == max(left) or passed_over[priority] >= PASSED_OVER_MAX
        passed_over = {other: passed + 1 for other, passed in passed_over.items()} | {priority: 0}
        left.remove(priority)


@given(st.lists(st.tuples(flows, priorities), max_size=20), flows, priorities, st.data())
@settings(max_examples=200)
def test_no_key_starves_whatever_arrives_after_it(
    pushed: list[tuple[str, int]], flow: str, priority: int, data: st.DataObject
) -> None:
    queue, keys = queue_of(pushed)
    mine = flow, len(keys)
    queue.push(mine, priority, 0.0)
    ahead = sum(1 for (of, _), _ in keys if of == flow)
    turns = (ahead + 1) * 3  # of its priority: each key of its flow that is ahead of it, and as often all three flows
    numbers = count(len(keys) + 1)
    for _ in range(turns * (PASSED_OVER_MAX + len(PRIORITIES))):
        for new_flow, new_priority in data.draw(st.lists(st.tuples(flows, priorities), max_size=3)):
            queue.push((new_flow, next(numbers)), new_priority, 1.0)
        if queue.pop()[0] == mine:
            return
    raise AssertionError(f"{mine} was not served")


@given(st.lists(st.tuples(st.integers(0, 9), priorities, st.sampled_from(["push", "push", "pop", "remove"])), max_size=80))
def test_oldest_is_the_earliest_push_of_all_that_wait(steps: list[tuple[int, int, str]]) -> None:
    queue: FairQueue[int] = FairQueue(lambda key: key % 3)
    pushed: dict[int, float] = {}
    highest: dict[int, int] = {}
    for now, (key, priority, step) in enumerate(steps):
        if step == "push":
            queue.push(key, priority, float(now))
            pushed.setdefault(key, float(now))
            highest[key] = max(priority, highest.get(key, priority))
        elif step == "remove":
            queue.remove(key)
            pushed.pop(key, None)
            highest.pop(key, None)
        elif pushed:
            served, served_at = queue.pop()
            assert highest.pop(served) == served_at
            del pushed[served]
        assert queue.oldest() == min(pushed.values(), default=None)
        assert len(queue) == len(pushed)
        assert all(waiting in queue for waiting in pushed)


def test_one_key_of_another_flow_does_not_wait_for_thousands() -> None:
    queue, _ = queue_of([("a", DEFAULT_PRIORITY)] * 5000 + [("a", HIGH_PRIORITY)] * 5000 + [("b", DEFAULT_PRIORITY)])
    served = [queue.pop()[0][0] for _ in range(2 * (PASSED_OVER_MAX + 1))]
    assert "b" in served
