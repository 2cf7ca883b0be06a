"""What proves that a UserStorage still exists before a child is created for it or adopted."""

import asyncio
from dataclasses import replace
from typing import Any

from support.builders import NOW, settled_snapshot, storage_object
from unit.test_contest import Server, without
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
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


def test_child_is_created_after_a_request() -> None:
    server, caches = Asked(storage_object()), Caches(lambda _: None, lambda _: None)
    assert apply(server, caches, without(Kind.SERVICE)).error is None
    assert (server.asked, server.writes) == (1, ["create Service"])


def test_no_child_is_created_for_what_is_being_deleted() -> None:
    server = Asked(storage_object(meta={"deletionTimestamp": "2026-01-31T12:00:00Z"}))
    assert apply(server, Caches(lambda _: None, lambda _: None), without(Kind.SERVICE)).error is not None
    assert server.writes == []


def test_no_child_is_adopted_without_a_request() -> None:
    server, caches = (
        Asked(storage_object(meta={"deletionTimestamp": "2026-01-31T12:00:00Z"})),
        Caches(lambda _: None, lambda _: None),
    )
    assert apply(server, caches, adoptable()).error is not None
    assert (server.asked, server.writes) == (1, [])
