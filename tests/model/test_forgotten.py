"""What is gone leaves nothing in the memory of the process."""

import asyncio
import gc
import types
from typing import Any

from model.test_reconciler_model import NAMESPACE, World, new_world
from support.memory_api import MemoryAPI
from userstorage_operator.api.resources import USER_STORAGES, Kind

USERS = 10
CYCLES = 3
_ELSEWHERE = (type, types.ModuleType, MemoryAPI, asyncio.AbstractEventLoop)
"""Not the operator's memory."""


def reachable(root: object) -> int:
    """Return the number of objects that the object keeps in memory, without code, modules, and what the cluster has."""
    seen: dict[int, object] = {}
    due = [root]
    while due:
        found = due.pop()
        if id(found) in seen or isinstance(found, _ELSEWHERE):
            continue
        seen[id(found)] = found
        due += [found.__closure__] if isinstance(found, types.FunctionType) else gc.get_referents(found)
    return len(seen)


def come_and_go(world: World, cycle: int) -> None:
    """Create users with new names, disturb and suspend half of them, and delete all; claims are deleted by hand."""
    names = [f"user-{cycle}-{number}" for number in range(USERS)]
    for number, name in enumerate(names):
        storage = {"readOnly": False, "reclaimPolicy": "Retain" if number % 2 else "Delete", "size": "1Gi"}
        spec: dict[str, Any] = {"userID": name, "replicas": 1, "className": "plain", "storage": storage}
        world.api.create(USER_STORAGES, NAMESPACE, {"metadata": {"name": name}, "spec": spec}, "tenant")
    world.settle()
    for name in names[: USERS // 2]:
        world.api.merge_patch(USER_STORAGES, NAMESPACE, name, {"spec": {"replicas": 0}}, "tenant")
        for kind in (Kind.SERVICE, Kind.POD):
            world.api.delete(kind.resource, NAMESPACE, f"user-storage-{name}", "opponent", grace_period=0)
    world.settle()
    for name in names:
        world.api.delete(USER_STORAGES, NAMESPACE, name, "tenant", propagation="Background")
    world.settle()
    for namespace, name in list(world.api.of(Kind.PVC.resource)):
        world.api.delete(Kind.PVC.resource, namespace, name, "opponent", grace_period=0)
    world.settle()


def test_users_that_are_gone_leave_nothing_in_memory(loop: asyncio.AbstractEventLoop) -> None:
    world = World(new_world(), loop)
    operator = world.start()
    counts = []
    for cycle in range(CYCLES):
        come_and_go(world, cycle)
        assert not world.api.of(USER_STORAGES)
        operator.sweep()  # a list forgets the deletions before it
        world.settle()
        gc.collect()
        counts.append(reachable(operator))
    assert max(counts) - min(counts) < USERS, counts
