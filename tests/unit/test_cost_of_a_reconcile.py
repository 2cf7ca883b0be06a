"""A reconcile of one of thousands that share a claim, a user id, a class with a limit or a host costs what one of five does.

The cost is the number of function calls: it does not depend on the machine.
"""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest

from support.builders import NOW, class_object, storage_object
from userstorage_operator.api.errors import NotFound
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.plan.planner import plan
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.observe import observe
from userstorage_operator.reconcile.priority import turn
from userstorage_operator.runtime.fair_queue import FairQueue

FEW, MANY = 5, 2000
SHARED: dict[str, Callable[[int], Unstructured]] = {
    "claim": lambda number: {"userID": f"u{number}", "storage": {"claimName": "x"}},
    "directory": lambda number: {"userID": f"u{number}", "storage": {"claimName": "x", "subPath": "team"}},
    "user id": lambda _: {"userID": "one"},
    "full class": lambda number: {"userID": f"u{number}", "className": "small"},
    "host": lambda number: {"userID": f"u{number}", "className": "exposing"},
    "namespace": lambda number: {"userID": f"u{number}"},
}


class CountedReconciles:
    """The input of reconciles of so many UserStorages that share something, in one namespace."""

    def __init__(self, shared: str, members: int) -> None:
        self.versions = count(1)
        self.spec = SHARED[shared]
        self.caches = Caches(lambda _: None, lambda _: None)
        limited = class_object("small", meta={"resourceVersion": "1"}, limits={"maxPerNamespace": 3})
        network = {"expose": "Ingress", "hostTemplate": "files.example.org"}
        for cls in (limited, class_object("exposing", meta={"resourceVersion": "2"}, network=network)):
            self.caches.cache(USER_STORAGE_CLASSES).event("ADDED", cls)
        clock = lambda: NOW  # noqa: E731
        self.state = LocalState.new(clock, self.caches)
        for number in range(members):
            self.event("ADDED", number)
        for number in range(FEW):
            self.reconcile(number)

    def event(self, event_type: str, number: int, **meta: Any) -> None:
        names = {"name": f"u{number}", "uid": f"uid-{number:05}", "resourceVersion": str(next(self.versions)), "generation": 1}
        raw = storage_object(meta=names | meta)
        self.caches.cache(USER_STORAGES).event(event_type, raw | {"spec": self.spec(number)})

    def reconcile(self, number: int) -> None:
        seen = asyncio.run(observe(Key("users", f"u{number}"), self.caches, self, self.state))
        assert seen is not None
        plan(seen, NOW)

    async def get(self, *_: Any) -> Unstructured:
        raise NotFound(404, "not found")

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    list_all = create = merge_patch = json_patch = delete = unasked


def calls_of(work: Callable[[], object]) -> int:
    """Return the number of function calls, of Python and of C, while `work` runs."""
    calls = 0

    def count_call(_: Any, event: str, __: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("shared", SHARED)
def test_reconcile_and_event_of_one_of_thousands_cost_what_those_of_one_of_five_do(shared: str) -> None:
    costs = []
    for members in (FEW, MANY):
        scenario, last = CountedReconciles(shared, members), members - 1
        scenario.event("MODIFIED", last, generation=2)  # what is imported or compiled on first use
        scenario.reconcile(last)
        costs.append(
            (
                calls_of(lambda: scenario.event("MODIFIED", last, generation=3)),  # noqa: B023  # called at once
                calls_of(lambda: scenario.reconcile(last)),  # noqa: B023  # called at once
                calls_of(lambda: scenario.event("ADDED", members)),  # noqa: B023  # called at once
                calls_of(lambda: turn(Key("users", f"u{last}"), scenario.caches, resync=True)),  # noqa: B023  # called at once
            )
        )
    for few, many in zip(*costs, strict=True):
        assert many <= 1.2 * few + 20, costs


def test_queue_of_thousands_costs_what_a_queue_of_five_does() -> None:
    costs = []
    for length in (FEW, MANY):
        queue: FairQueue[Key] = FairQueue(lambda key: key.namespace)
        for number in range(length):
            queue.push(Key(f"team-{number % 100}", f"u{number}"), number % 3, 0.0)
        key = Key("team-0", "last")
        steps: tuple[Callable[[], object], ...] = (
            partial(queue.push, key, 0, 1.0),
            partial(queue.push, key, 2, 1.0),
            partial(queue.remove, key),
            queue.pop,
            queue.oldest,
        )
        costs.append([calls_of(step) for step in steps])
    assert costs[0] == costs[1]
