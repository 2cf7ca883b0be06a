"""A list that is refused does not stop the rest of the sweep."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.builders import storage_object
from userstorage_operator.api.errors import Refused, Unavailable
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers import sweep
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.sweep import Sweep

TEAMS = ("team-a", "team-b", "team-c")
LISTS_PER_TEAM = 1 + len(Kind)
"""Resources in each namespace."""
REQUESTS_PER_TEAM = LISTS_PER_TEAM + len(Kind)
"""List requests in each namespace: children without their label are listed besides."""


class SweptServer:
    """One UserStorage per namespace. Refuses the lists of namespaces in `refusing`, and answers none while `unreachable`."""

    def __init__(self) -> None:
        self.refusing = {"team-b"}
        self.unreachable = False
        self.requests: list[tuple[Resource, str | None]] = []

    async def list_pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, size: int = 100, known: Any = None
    ) -> AsyncIterator[tuple[list[Unstructured], str]]:
        self.requests.append((resource, namespace))
        if self.unreachable:
            raise Unavailable(0, "no answer")
        if namespace in self.refusing:
            raise Refused(403, f"{resource.plural} is forbidden")
        found = resource is USER_STORAGES
        yield [storage_object("alice", meta={"namespace": namespace, "uid": f"uid-{namespace}"})] if found else [], "900"

    async def latest_version(self, *_: Any) -> int:
        raise NotImplementedError

    async def current(self, *_: Any) -> Unstructured:
        raise NotImplementedError

    def watch(self, *_: Any) -> AsyncIterator[Unstructured]:
        raise NotImplementedError

    async def get(self, *_: Any) -> Unstructured:
        raise NotImplementedError


class SweepScenario:
    """A sweep of the namespaces of the teams, and its results."""

    def __init__(self) -> None:
        self.server = SweptServer()
        self.requeued: list[Key] = []
        self.failed = 0
        self.done = asyncio.Event()
        self.caches = Caches(lambda _: None, lambda _: None)
        self.sweep = Sweep(self.server, self.caches, TEAMS, self.requeued.append, self)

    def swept(self, seconds: float) -> None:
        assert seconds >= 0
        self.done.set()

    def sweep_failed(self) -> None:
        self.failed += 1


async def test_a_refused_namespace_does_not_stop_the_others() -> None:
    scenario = SweepScenario()
    failed = await scenario.sweep.once()
    assert sorted(key.namespace for key in scenario.caches.keys()) == ["team-a", "team-c"]  # noqa: SIM118  # not a dict
    assert {namespace for _, namespace in failed} == {"team-b"}
    assert len(failed) == LISTS_PER_TEAM
    assert scenario.failed == 1
    missing = set(scenario.caches.not_synced(TEAMS))
    assert missing == {f"{kind.resource.plural} in team-b" for kind in Kind} | {"userstorages in team-b"}


async def test_only_refused_lists_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_RETRY", 0.01)
    dues = iter((0.0,))
    monkeypatch.setattr(sweep, "_next", lambda _: next(dues, math.inf))
    scenario = SweepScenario()
    running = asyncio.create_task(scenario.sweep.run(300))
    async with asyncio.timeout(10):
        while scenario.failed < 3:  # noqa: ASYNC110  # the sweep offers no event to wait for
            await asyncio.sleep(0.001)
        assert not scenario.done.is_set()
        assert sum(namespace == "team-a" for _, namespace in scenario.server.requests) == REQUESTS_PER_TEAM
        scenario.server.refusing.clear()
        await scenario.done.wait()
    running.cancel()
    assert Key("team-b", "alice") in scenario.caches.keys()  # noqa: SIM118  # not a dict


async def test_a_sweep_lists_every_kind() -> None:
    scenario = SweepScenario()
    scenario.server.refusing.clear()
    await scenario.sweep.once()
    assert len(scenario.server.requests) == 2 + len(TEAMS) * REQUESTS_PER_TEAM
    assert {resource for resource, _ in scenario.server.requests} == {
        USER_STORAGE_CLASSES, STORAGE_CLASSES, USER_STORAGES, *(kind.resource for kind in Kind)
    }  # fmt: skip


async def test_all_are_requeued_at_the_start_without_a_list() -> None:
    scenario = SweepScenario()
    scenario.server.refusing.clear()
    await scenario.sweep.once()
    listed = len(scenario.server.requests)
    scenario.requeued.clear()
    running = asyncio.create_task(scenario.sweep.run(3600))
    async with asyncio.timeout(10):
        while len(scenario.requeued) < len(TEAMS):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.001)
    running.cancel()
    assert Counter(scenario.requeued) == Counter(Key(team, "alice") for team in TEAMS)
    assert len(scenario.server.requests) == listed


async def test_each_is_requeued_once_in_some_sweeps() -> None:
    scenario = SweepScenario()
    scenario.server.refusing.clear()
    for _ in range(sweep._TURNS):
        await scenario.sweep.once()
    assert Counter(scenario.requeued) == Counter(Key(team, "alice") for team in TEAMS)


async def test_an_unreachable_server_gets_one_request() -> None:
    scenario = SweepScenario()
    scenario.server.unreachable = True
    failed = await scenario.sweep.once()
    assert len(scenario.server.requests) == 1
    assert len(failed) == 2 + len(TEAMS) * LISTS_PER_TEAM
