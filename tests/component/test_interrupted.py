"""The operator is killed before or after each single write and restarted: the final state is the same.

The tests call the reconciler directly, without queue and watches, so that they can kill it at an exact write. Like a new
process, each run starts only with the objects that the API server lists.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
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
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.status import requeue

pytestmark = [pytest.mark.kwok]

WRITES_TO_READY = 6
"""Finalizer, NetworkPolicy, Service, claim, pod and status; an Ingress adds one more."""


class Killed(BaseException):
    """Stands in for SIGKILL: no handler of the operator catches a BaseException."""


class DyingClient:
    """The API client of a process that is killed at its `last`-th write, before or after the server has executed it."""

    def __init__(self, live: Live, last: int | None, *, after: bool) -> None:
        self._client = live.client
        self._last = last
        self._after = after
        self.writes = 0

    async def get(self, *args: Any) -> Unstructured:
        return await self._client.get(*args)

    async def list_all(self, *args: Any, **kwargs: Any) -> tuple[list[Unstructured], str]:
        return await self._client.list_all(*args, **kwargs)

    def pages(self, *args: Any, **kwargs: Any) -> AsyncIterator[list[Unstructured]]:
        return self._client.pages(*args, **kwargs)

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
        response: Unstructured = await call(*args)
        if self.writes == self._last:
            raise Killed
        return response


@pytest.fixture(autouse=True)
def _report_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the status wait for the end of a start or deletion, however slow it is, so that each run makes the same writes."""
    monkeypatch.setattr(requeue, "REPORT_DELAY", timedelta(minutes=5))


class NoEvents:
    """Drops events: they do not count as writes of a reconcile."""

    def record(self, *_: Any) -> None:
        pass


async def fresh_caches(live: Live) -> Caches:
    """Return caches as they are after the first lists."""
    caches = Caches(lambda _: None, lambda _: None)
    for resource in (USER_STORAGES, USER_STORAGE_CLASSES, *(kind.resource for kind in Kind)):
        selector = "" if resource in (USER_STORAGES, USER_STORAGE_CLASSES) else names.CHILD_SELECTOR
        namespace = live.namespace if resource.namespaced else None
        await relist(live.client, resource, namespace, selector, caches.cache(resource))
    return caches


async def reconcile_until(live: Live, done: Any, last: int | None = None, *, after: bool = False, user: str = "alice") -> int:
    """Reconcile a user until `done`, and return the number of writes.

    Raises Killed at the `last`-th write, before or after it is executed.
    """
    cluster = DyingClient(live, last, after=after)
    book = RolloutTracker(lambda _: None, lambda _: None)
    reconciler = Reconciler(cluster, await fresh_caches(live), book, NoEvents(), lambda: datetime.now(UTC))
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        # Lists replace watch events: they are at least as current.
        applier, caches = reconciler._applier, await fresh_caches(live)
        for part in (reconciler, reconciler._finalizers, applier, applier._finalizers, applier._inspector):
            part._lister = caches
        await reconciler.reconcile(Key(live.namespace, user), 0)
        if await done():
            return cluster.writes
        await asyncio.sleep(0.1)
    pytest.fail(f"not done within {PATIENCE:.0f} s: {await live.get()}")


async def is_ready(live: Live, name: str = "alice") -> bool:
    return await live.condition("Ready", name) == ("True", "PodReady")


async def is_gone(live: Live) -> bool:
    return await live.get() is None


async def comparable_state(live: Live) -> list[Any]:
    """Return the state of children and status that must not depend on how often the operator was killed."""
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
async def test_creation_killed_at_its_ingress_is_completed_by_the_next_process(
    live: Live, exposing_class: ClassOfTest, after: bool
) -> None:
    # tests/faults/test_crashes.py has all other writes of a creation, and those of a deletion in the background.
    await live.create(className=exposing_class.name)
    with pytest.raises(Killed):
        await reconcile_until(live, lambda: is_ready(live), WRITES_TO_READY, after=after)  # the status is one later
    assert (await live.child(Kind.INGRESS) is not None) == after
    assert await live.child(Kind.POD) is not None
    await reconcile_until(live, lambda: is_ready(live))
    assert await reconcile_until(live, lambda: is_ready(live)) == 0  # nothing left to write
    assert await comparable_state(live) == [
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
        ("Paused", "False", "NotPaused"),
        ["userstorage.dev/pod-gone"],
        "Ready",
        (await live.get() or {})["status"]["appliedHash"],
    ]


async def test_uninterrupted_creation_makes_expected_writes(live: Live, exposing_class: ClassOfTest) -> None:
    await live.create()
    assert await reconcile_until(live, lambda: is_ready(live)) == WRITES_TO_READY
    await live.create("bob", className=exposing_class.name)
    assert await reconcile_until(live, lambda: is_ready(live, "bob"), user="bob") == WRITES_TO_READY + 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", [1, 2])
async def test_foreground_deletion_killed_at_any_write_is_completed_by_the_next_process(
    live: Live, last: int, after: bool
) -> None:
    # The garbage collector may be the first to delete the pod. Policy and finalizer are always two writes of the operator.
    await live.create()
    await reconcile_until(live, lambda: is_ready(live))
    claim = await live.child(Kind.PVC)
    await live.delete_with("Foreground")
    with pytest.raises(Killed):
        await reconcile_until(live, lambda: is_gone(live), last, after=after)
    await reconcile_until(live, lambda: is_gone(live))
    assert await live.child(Kind.POD) is None
    kept = await live.child(Kind.PVC)
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", [2, 3, 4], ids=["policy", "claim", "finalizer"])
async def test_deletion_with_its_claim_killed_at_any_write_is_completed_by_the_next_process(
    live: Live, last: int, after: bool
) -> None:
    await live.create(storage={"reclaimPolicy": "Delete"})
    await reconcile_until(live, lambda: is_ready(live))
    await live.delete_with("Background")
    with pytest.raises(Killed):
        await reconcile_until(live, lambda: is_gone(live), last, after=after)
    await reconcile_until(live, lambda: is_gone(live))
    assert await live.child(Kind.POD) is None
    for kind in (Kind.NETWORK_POLICY, Kind.PVC):
        await live.until(partial(is_absent, live, kind))


async def is_absent(live: Live, kind: Kind) -> bool:
    return await live.child(kind) is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("last", range(1, 6), ids=["finalizer", "policy", "Service", "pod", "status"])
async def test_adoption_killed_at_any_write_is_completed_by_the_next_process(live: Live, last: int, after: bool) -> None:
    await live.create()
    await reconcile_until(live, lambda: is_ready(live))
    pod = (await live.pod())["metadata"]["uid"]
    await live.delete_with("Orphan")
    await reconcile_until(live, lambda: is_gone(live))
    await live.create()
    with pytest.raises(Killed):
        await reconcile_until(live, lambda: is_ready(live), last, after=after)
    await reconcile_until(live, lambda: is_ready(live))
    assert await reconcile_until(live, lambda: is_ready(live)) == 0  # nothing left to write
    assert (await live.pod())["metadata"]["uid"] == pod
