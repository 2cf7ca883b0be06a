"""Answers of the read API from the caches."""

import asyncio

import pytest

from support.builders import storage_object
from support.caches import put_list
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.reader import CacheReader
from userstorage_operator.informers.watch_liveness import WatchLiveness
from userstorage_operator.readmodel.query import Aged, Query
from userstorage_operator.readmodel.summary import summary


def named(name: str, version: int, user: str = "alice", namespace: str = "users", **meta: str) -> Unstructured:
    known = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": str(version)}
    return storage_object(user, meta=known | meta)


class Watched:
    def __init__(self) -> None:
        self.caches = Caches(lambda _: None, lambda _: None)
        self.cache = self.caches.cache(USER_STORAGES)
        self.reader = CacheReader(self.caches, WatchLiveness(["/"], lambda: 0.0))

    async def names(self, **query: object) -> list[str]:
        page = await self.reader.page(Query(**query))  # type: ignore[arg-type]  # the fields of Query
        return [item["name"] for item in page.value.summaries]


async def test_the_newest_version_is_returned_whatever_its_source() -> None:
    watched, key = Watched(), Key("users", "a")
    for store, raw in (
        (lambda raw: watched.cache.event("ADDED", raw), named("a", 1)),
        (watched.cache.put, named("a", 2) | {"status": {"phase": "Ready"}}),
        (lambda raw: watched.cache.event("MODIFIED", raw), named("a", 3)),
        (lambda raw: watched.cache.event("MODIFIED", raw), named("a", 4, uid="another")),
    ):
        store(raw)
        assert await watched.reader.one(key) == Aged(summary(raw), 0.0)
    watched.cache.event("DELETED", named("a", 5, uid="another"))
    assert await watched.reader.one(key) == Aged(None, 0.0)
    assert await watched.names() == []


async def test_pages_are_sorted_and_filtered_by_user() -> None:
    watched = Watched()
    put_list(watched.cache, [named("b", 1, "bob"), named("a", 2), named("c", 3, namespace="other")], "3")
    assert await watched.names() == ["c", "a", "b"]
    assert await watched.names(user="alice") == ["c", "a"]
    assert await watched.names(user="alice", namespace="users") == ["a"]
    assert await watched.names(after=Key("users", "a")) == ["b"]
    put_list(watched.cache, [named("a", 5, "bob", uid="another")], "6")
    assert await watched.names(user="alice") == []
    assert await watched.names(user="bob") == ["a"]


async def test_walk_through_many_users_lets_the_event_loop_turn_and_stays_complete() -> None:
    watched = Watched()
    put_list(watched.cache, [named(f"u{number:05}", number + 1) for number in range(5000)], "5000")
    ready = named("u04321", 6000) | {"status": {"phase": "Ready"}}
    turns, done = 0, asyncio.Event()

    async def other_work() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            if turns == 3:
                watched.cache.event("MODIFIED", ready)  # behind the point that the walk has reached
                watched.cache.event("DELETED", named("u00010", 6001))
            await asyncio.sleep(0)

    work = asyncio.create_task(other_work())
    assert await watched.names(user="alice", phase="Ready") == ["u04321"]
    done.set()
    await work
    assert turns >= 5000 / 300 - 1


def test_deletion_shows_before_the_status_says_so() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "PodReady", "message": "it serves"}
    going = named("a", 1, deletionTimestamp="2026-01-31T12:00:00Z") | {"status": {"phase": "Ready", "conditions": [ready]}}
    shown = summary(going)
    assert (shown["phase"], shown["ready"], shown["reason"]) == ("Terminating", False, "Terminating")
    stuck = going | {"status": {"phase": "Failed", "conditions": [ready | {"status": "False", "reason": "Terminating"}]}}
    assert summary(stuck)["phase"] == "Failed"


async def test_filters_by_phase_and_readiness_look_only_at_what_they_return(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    put_list(watched.cache, [named(f"u{number:04}", number + 1) for number in range(1000)], "1000")
    for number, phase, ready in ((3, "Ready", "True"), (500, "Degraded", "True"), (700, "Failed", "False")):
        conditions = [{"type": "Ready", "status": ready}]
        watched.cache.put(named(f"u{number:04}", 2000 + number) | {"status": {"phase": phase, "conditions": conditions}})
    looked_at = 0
    found = watched.caches.summary

    def counting(key: Key) -> Unstructured | None:
        nonlocal looked_at
        looked_at += 1
        return found(key)

    monkeypatch.setattr(watched.caches, "summary", counting)
    assert await watched.names(phase="Failed") == ["u0700"]
    assert await watched.names(ready=True) == ["u0003", "u0500"]
    assert await watched.names(ready=True, phase="Degraded", namespace="users") == ["u0500"]
    assert await watched.names(ready=True, phase="Failed") == []
    assert looked_at == 4
