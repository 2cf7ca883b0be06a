"""What is refused to the sweep keeps it from nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.builders import storage_object
from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers import sweep
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.sweep import Sweep

TEAMS = ("team-a", "team-b", "team-c")
OF_A_TEAM = 1 + len(Kind)
"""Lists in each namespace."""


class Server:
    """One user per namespace. It gives no list of those in `refusing`, and none at all while it is away."""

    def __init__(self) -> None:
        self.refusing = {"team-b"}
        self.away = False
        self.asked: list[tuple[Resource, str | None]] = []

    async def list_all(self, resource: Resource, namespace: str | None, _: str = "") -> tuple[list[Unstructured], str]:
        self.asked.append((resource, namespace))
        if self.away:
            raise Unavailable(0, "no answer")
        if namespace in self.refusing:
            raise Refused(403, f"{resource.plural} is forbidden")
        found = resource is USER_STORAGES
        return [storage_object("alice", meta={"namespace": namespace, "uid": f"uid-{namespace}"})] if found else [], "900"

    def watch(self, *_: Any) -> AsyncIterator[Unstructured]:
        raise NotImplementedError


class World:
    """A sweep of the teams, and what comes of it."""

    def __init__(self) -> None:
        self.server = Server()
        self.looked_at: list[Key] = []
        self.failed = 0
        self.done = asyncio.Event()
        self.views = Caches(lambda _: None, lambda _: None)
        self.sweep = Sweep(self.server, self.views, TEAMS, self.looked_at.append, self)

    def swept(self, seconds: float) -> None:
        assert seconds >= 0
        self.done.set()

    def sweep_failed(self) -> None:
        self.failed += 1


async def test_a_namespace_that_is_refused_keeps_nobody_else_from_being_looked_at() -> None:
    world = World()
    owed = await world.sweep.once()
    assert sorted(key.namespace for key in world.looked_at) == ["team-a", "team-c"]
    assert {namespace for _, namespace in owed} == {"team-b"}
    assert len(owed) == OF_A_TEAM
    assert world.failed == 1
    missing = set(world.views.not_synced(TEAMS))
    assert missing == {f"{kind.resource.plural} in team-b" for kind in Kind} | {"userstorages in team-b"}


async def test_what_was_refused_is_tried_again_and_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_RETRY", 0.01)
    world = World()
    running = asyncio.create_task(world.sweep.run(3600))
    async with asyncio.timeout(10):
        while world.failed < 3:  # noqa: ASYNC110  # it offers no event
            await asyncio.sleep(0.001)
        assert not world.done.is_set()
        assert sum(namespace == "team-a" for _, namespace in world.server.asked) == OF_A_TEAM
        world.server.refusing.clear()
        await world.done.wait()
    running.cancel()
    assert list(world.views.not_synced(TEAMS)) == []
    assert Key("team-b", "alice") in world.views.keys()  # noqa: SIM118  # not a dict


async def test_a_server_that_does_not_answer_is_asked_once() -> None:
    world = World()
    world.server.away = True
    owed = await world.sweep.once()
    assert len(world.server.asked) == 1
    assert len(owed) == 2 + len(TEAMS) * OF_A_TEAM
