"""Killed before or after each single write, then started again: the world ends the same.

The reconciler is driven pass by pass here, without queue and watches, so that the end can come at an exact write. Each
life begins, as a process does, with nothing but what the API server lists.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.kubectl import PATIENCE
from support.live import ClassOfTest, Live
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.informer import relist
from userstorage_operator.reconcile import reconciler as reconciler_module
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker

pytestmark = [pytest.mark.kwok]

WRITES_TO_READY = 6
"""Finalizer, NetworkPolicy, claim, Service, pod, status; an Ingress is one more."""


class Killed(BaseException):
    """No handler catches this, as none catches SIGKILL."""


class Mortal:
    """The API client of a process that dies at its `last`-th write, before or after the server has done it."""

    def __init__(self, live: Live, last: int | None, *, after: bool) -> None:
        self._client = live.client
        self._last = last
        self._after = after
        self.writes = 0

    async def get(self, *args: Any) -> Unstructured:
        return await self._client.get(*args)

    async def list_all(self, *args: Any, **kwargs: Any) -> tuple[list[Unstructured], str]:
        return await self._client.list_all(*args, **kwargs)

    async def create(self, *args: Any) -> Unstructured:
        return await self._write(self._client.create, *args)

    async def merge_patch(self, *args: Any) -> Unstructured:
        return await self._write(self._client.merge_patch, *args)

    async def json_patch(self, *args: Any) -> Unstructured:
        return await self._write(self._client.json_patch, *args)

    async def delete(self, *args: Any) -> Unstructured:
        return await self._write(self._client.delete, *args)

    async def _write(self, call: Any, *args: Any) -> Unstructured:
        self.writes += 1
        if self.writes == self._last and not self._after:
            raise Killed
        answer: Unstructured = await call(*args)
        if self.writes == self._last:
            raise Killed
        return answer


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the pod is: the first status waits for it, so that a life always has the same writes."""
    monkeypatch.setattr(reconciler_module, "_FIRST_REPORT", timedelta(minutes=5))


class Unheard:
    """Events are no writes of a pass."""

    def record(self, *_: Any) -> None:
        pass


async def listed(live: Live) -> Caches:
    """Views as they are after the first lists."""
    views = Caches(lambda _: None, lambda _: None)
    for resource in (USER_STORAGES, USER_STORAGE_CLASSES, *(kind.resource for kind in Kind)):
        selector = "" if resource in (USER_STORAGES, USER_STORAGE_CLASSES) else names.CHILD_SELECTOR
        namespace = live.namespace if resource.namespaced else None
        await relist(live.client, resource, namespace, selector, views.cache(resource))
    return views


async def live_until(live: Live, done: Any, last: int | None = None, *, after: bool = False, user: str = "alice") -> int:
    """One life of the operator: passes over a user until `done`, or until death. How many writes it made."""
    cluster = Mortal(live, last, after=after)
    book = RolloutTracker(lambda _: None, lambda _: None)
    reconciler = Reconciler(cluster, await listed(live), book, Unheard(), lambda: datetime.now(UTC))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        # Events are replaced by lists, which show at least what events would have shown by now.
        reconciler._views = reconciler._actor._views = await listed(live)
        await reconciler.reconcile(Key(live.namespace, user), 0)
        if await done():
            return cluster.writes
        await asyncio.sleep(0.1)
    pytest.fail(f"not done within {PATIENCE:.0f} s: {await live.get()}")


async def is_ready(live: Live, name: str = "alice") -> bool:
    return await live.condition("Ready", name) == ("True", "PodReady")


async def is_gone(live: Live) -> bool:
    return await live.get() is None


async def essence(live: Live) -> list[Any]:
    """What must not depend on how often the operator died."""
    found: list[Any] = []
    for kind in Kind:
        if kind.resource.optional:
            continue
        objects, _ = await live.client.list_all(kind.resource, live.namespace, names.CHILD_SELECTOR)
        found += [(kind, child["metadata"]["name"], child["metadata"]["labels"].get("userId")) for child in objects]
    raw = await live.get()
    if raw is not None:
        conditions: Iterable[Unstructured] = raw["status"]["conditions"]
        found += [(entry["type"], entry["status"], entry["reason"]) for entry in conditions]
        found += [raw["metadata"]["finalizers"], raw["status"]["phase"], raw["status"]["appliedHash"]]
    return found


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", range(1, WRITES_TO_READY + 2))
async def test_creation(live: Live, exposing: ClassOfTest, last: int, after: bool) -> None:
    await live.create(className=exposing.name)
    with pytest.raises(Killed):
        await live_until(live, lambda: is_ready(live), last, after=after)
    await live_until(live, lambda: is_ready(live))
    assert await live_until(live, lambda: is_ready(live)) == 0  # nothing left to write
    assert await essence(live) == [
        (Kind.NETWORK_POLICY, "user-storage-alice", "alice"),
        (Kind.PVC, "user-storage-alice", "alice"),
        (Kind.SERVICE, "user-storage-alice", "alice"),
        (Kind.POD, "user-storage-alice", "alice"),
        (Kind.INGRESS, "user-storage-alice", "alice"),
        ("Ready", "True", "PodReady"),
        ("StorageReady", "True", "ClaimBound"),
        ("PodUpToDate", "True", "UpToDate"),
        ("NetworkReady", "True", "Synced"),
        ("Suspended", "False", "Running"),
        ("Reconciling", "False", "Done"),
        ("Stalled", "False", "NotStalled"),
        ["userstorage.dev/pod-gone"],
        "Ready",
        (await live.get() or {})["status"]["appliedHash"],
    ]


async def test_an_unharmed_life_makes_as_many_writes_as_were_tried(live: Live, exposing: ClassOfTest) -> None:
    await live.create()
    assert await live_until(live, lambda: is_ready(live)) == WRITES_TO_READY
    await live.create("bob", className=exposing.name)
    assert await live_until(live, lambda: is_ready(live, "bob"), user="bob") == WRITES_TO_READY + 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", [1, 2, 3], ids=["pod deletion", "status", "finalizer"])
async def test_deletion(live: Live, last: int, after: bool) -> None:
    await live.create()
    await live_until(live, lambda: is_ready(live))
    claim = await live.child(Kind.PVC)
    await live.delete(USER_STORAGES, "alice")
    with pytest.raises(Killed):
        await live_until(live, lambda: is_gone(live), last, after=after)
    await live_until(live, lambda: is_gone(live))
    assert await live.child(Kind.POD) is None
    kept = await live.child(Kind.PVC)
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
