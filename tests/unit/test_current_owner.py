"""What proves that a UserStorage still exists before a child is created for it or adopted."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from support.builders import NOW, settled_snapshot, storage_object
from support.caches import put_list
from support.clock import FakeClock
from unit.test_contest import Server, without
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers import object_cache
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import planner
from userstorage_operator.reconcile.apply import Applier
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.status.outcome import ApplyResult


class Asked(Server):
    """An API server that counts the requests for the UserStorage, which may be gone."""

    def __init__(self, live: Unstructured) -> None:
        super().__init__()
        self.live = live
        self.asked = 0

    async def get(self, resource: Resource, *_: Any) -> Unstructured:
        assert resource is USER_STORAGES
        self.asked += 1
        return self.live


def apply(server: Server, caches: Caches, snapshot: Snapshot) -> ApplyResult:
    state = LocalState.new(lambda: NOW, caches)
    return asyncio.run(Applier(server, caches, state).apply(planner.plan(snapshot, NOW), snapshot, NOW))


def adoptable() -> Snapshot:
    snapshot = settled_snapshot(storage_object())
    service = snapshot.children.service
    assert service is not None
    orphaned = service | {"metadata": service["metadata"] | {"ownerReferences": [], "namespace": "users"}}
    return snapshot.with_children(replace(snapshot.children, service=orphaned))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(object_cache, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("heard", "seconds", "asked"),
    [("users", 0.9, 0), (None, 0.9, 0), ("users", 1.1, 1), ("team-b", 0.0, 1)],
    ids=["own watch", "watch of all", "silent watch", "other watch"],
)
def test_child_is_created_without_a_request_if_the_watch_is_current(
    clock: FakeClock, heard: str | None, seconds: float, asked: int
) -> None:
    server, caches = Asked(storage_object()), Caches(lambda _: None, lambda _: None)
    caches.cache(USER_STORAGES).hear(heard, 7)
    clock.now += seconds
    assert apply(server, caches, without(Kind.SERVICE)).error is None
    assert (server.asked, server.writes) == (asked, ["create Service"])


def test_watch_that_repeats_the_past_after_an_old_list_is_not_current(clock: FakeClock) -> None:
    server, caches = Asked(storage_object()), Caches(lambda _: None, lambda _: None)
    cache = caches.cache(USER_STORAGES)
    cache.hear("users", 7)
    clock.now += 2.0
    for version in (5, 6, 7):
        cache.hear("users", version)
    assert not cache.is_current("users")
    apply(server, caches, without(Kind.SERVICE))
    assert server.asked == 1
    cache.hear("users", 8)
    assert cache.is_current("users")


def test_watch_with_a_gap_is_current_after_a_list_and_the_next_event(clock: FakeClock) -> None:
    cache = Caches(lambda _: None, lambda _: None).cache(USER_STORAGES)
    cache.hear("users", 7)
    cache.open_gap("users")
    cache.hear("users", 21)
    assert not cache.is_current("users"), "what happened between 7 and 20 is missing"
    put_list(cache, [], "20", "users")
    cache.close_gap("users")
    assert not cache.is_current("users"), "the list may be older than what was heard"
    cache.hear("users", 23)
    assert cache.is_current("users")


def test_child_of_a_user_storage_that_was_reported_is_not_created_without_a_request(clock: FakeClock) -> None:
    server, caches = Asked(storage_object()), Caches(lambda _: None, lambda _: None)
    caches.cache(USER_STORAGES).hear("users", 7)
    reported = without(Kind.SERVICE)
    apply(server, caches, replace(reported, status={"observedGeneration": 3}))
    assert server.asked == 1


def test_no_child_is_created_for_what_is_being_deleted() -> None:
    server = Asked(storage_object(meta={"deletionTimestamp": "2026-01-31T12:00:00Z"}))
    assert apply(server, Caches(lambda _: None, lambda _: None), without(Kind.SERVICE)).error is not None
    assert server.writes == []


def test_no_child_is_adopted_without_a_request(clock: FakeClock) -> None:
    server, caches = (
        Asked(storage_object(meta={"deletionTimestamp": "2026-01-31T12:00:00Z"})),
        Caches(lambda _: None, lambda _: None),
    )
    caches.cache(USER_STORAGES).hear("users", 7)
    assert apply(server, caches, adoptable()).error is not None
    assert (server.asked, server.writes) == (1, [])
