"""List, watch, resume, list again: against a scripted API server, since the real one does not fail on demand."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError, NotFound, Unavailable
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.informers import informer
from userstorage_operator.informers.informer import Informer, longest_silences, relist
from userstorage_operator.informers.object_cache import ObjectCache


def pod(version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": "p", "uid": "1", "resourceVersion": str(version)}}


class Scripted:
    """A source that plays one script per stream; the stream after the last script stays silent."""

    def __init__(self, *streams: list[dict[str, Any] | Exception]) -> None:
        self.streams = list(streams)
        self.lists = 0
        self.watched: list[str] = []
        self.answers: list[dict[str, Any]] = []
        """The answers to `current`; NotFound after the last."""
        self.latest = 1_000_000

    async def latest_version(self, resource: Resource, namespace: str | None) -> int:
        return self.latest

    async def current(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        if not self.answers:
            raise NotFound(404, name)
        return self.answers.pop(0)

    async def list_pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, size: int = 100, known: Any = None
    ) -> AsyncIterator[tuple[list[Any], str]]:
        self.lists += 1
        yield [pod(self.lists * 10)], str(self.lists * 10)

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[dict[str, Any]]:
        self.watched.append(resource_version)
        if not self.streams:
            await asyncio.Event().wait()
        for step in self.streams.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer, "_MIN_PAUSE", 0.0)


async def play(source: Scripted, *, streams: int, cache: ObjectCache | None = None) -> Informer:
    """Run an informer until it has requested this many streams."""
    cache = cache if cache is not None else ObjectCache(lambda _: None)
    running = Informer(source, Kind.POD.resource, None, "", cache)
    task = asyncio.create_task(running.run())
    async with asyncio.timeout(10):
        while len(source.watched) < streams:  # noqa: ASYNC110  # the source is polled, as it has no event to offer
            await asyncio.sleep(0.01)
    task.cancel()
    return running


def event(kind: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": pod(version)}


async def test_a_watch_that_ends_or_breaks_is_resumed_without_a_new_list() -> None:
    source = Scripted([event("MODIFIED", 12), event("BOOKMARK", 15)], [event("MODIFIED", 17), Unavailable(0, "cut")])
    await play(source, streams=3)
    assert source.watched == ["10", "15", "17"]
    assert source.lists == 1


@pytest.mark.parametrize("expired", [ClusterError(410, "gone"), {"type": "ERROR", "object": {"code": 410, "message": "gone"}}])
async def test_only_an_expired_resource_version_causes_a_new_list(expired: Any) -> None:
    source = Scripted([event("MODIFIED", 12), expired])
    await play(source, streams=2)
    assert source.watched == ["10", "20"]
    assert source.lists == 2


async def test_watches_that_fail_at_once_are_retried_with_backoff_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def recorded(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    failures: list[list[dict[str, Any] | Exception]] = [
        [Unavailable(503, "no", retry_after=2.0 if number == 5 else None)] for number in range(6)
    ]
    source = Scripted(*failures)
    running = Informer(source, Kind.POD.resource, None, "", ObjectCache(lambda _: None))
    monkeypatch.setattr(asyncio, "sleep", recorded)
    task = asyncio.create_task(running.run())
    while len(source.watched) < 7:
        await sleep(0.01)
    assert running.failing
    task.cancel()
    assert source.lists == 1
    waits = [pause for pause in pauses if pause > 0.1]
    assert waits[4] > waits[0] * 4
    assert waits[5] >= 2.0


async def test_a_watch_event_ends_the_failing_state_of_the_informer() -> None:
    source = Scripted([Unavailable(503, "no")], [event("BOOKMARK", 12)])
    running = await play(source, streams=3)
    assert not running.failing


class Uninstalled(Scripted):
    """A source that does not serve the resource for the first `absent` lists."""

    def __init__(self, *streams: list[dict[str, Any] | Exception], absent: int) -> None:
        super().__init__(*streams)
        self.absent = absent

    async def list_pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, size: int = 100, known: Any = None
    ) -> AsyncIterator[tuple[list[Any], str]]:
        if self.absent:
            self.absent -= 1
            raise NotFound(404, "the server could not find the requested resource")
        async for page in super().list_pages(resource, namespace, selector):
            yield page


async def test_a_missing_resource_counts_as_an_empty_list_until_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer, "_ABSENT_RETRY", 0.1)
    served: list[bool] = []
    cache = ObjectCache(lambda _: None, lambda: served.append(cache.served))
    source = Uninstalled([NotFound(404, "uninstalled")], absent=2)
    running = Informer(source, Kind.HTTP_ROUTE.resource, None, "", cache)
    task = asyncio.create_task(running.run())
    async with asyncio.timeout(10):
        while not served:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
        assert list(cache.namespaces_not_synced([None])) == []
        assert not running.failing
        while len(source.watched) < 2:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
    task.cancel()
    assert served == [False, True]
    assert cache.get("n", "p") is not None


async def test_objects_of_an_uninstalled_resource_are_removed_and_reported() -> None:
    gone: list[str] = []
    cache = ObjectCache(lambda obj: gone.append(obj["metadata"]["name"]), lambda: gone.append("not served"))
    cache.put(pod(1))
    assert await relist(Uninstalled(absent=1), Kind.HTTP_ROUTE.resource, None, "", cache) is None
    assert (gone, len(cache)) == (["p", "not served"], 0)


async def test_a_required_resource_that_is_not_found_raises() -> None:
    with pytest.raises(NotFound):
        await relist(Uninstalled(absent=1), Kind.POD.resource, None, "", ObjectCache(lambda _: None))


RUNNING, ENDED = {"status": {"phase": "Running"}}, {"status": {"phase": "Succeeded"}}
TERMINATING: dict[str, Any] = {"metadata": {"deletionTimestamp": "2026-01-31T11:59:50Z"}}
COLLECTED = {"metadata": TERMINATING["metadata"] | {"deletionGracePeriodSeconds": 0, "finalizers": ["foregroundDeletion"]}}
HELD = {"metadata": COLLECTED["metadata"] | {"finalizers": ["example.org/held"]}}


@pytest.mark.parametrize(
    ("last", "live", "kept"),
    [
        (RUNNING, [pod(14)], "14"),
        (RUNNING | TERMINATING, [pod(14)], "14"),
        (RUNNING, [{"metadata": pod(14)["metadata"] | {"uid": "2"}}], None),
        (RUNNING, [], None),
        (ENDED | TERMINATING, [pod(14)], None),
        (RUNNING | COLLECTED, [pod(14)], None),
        (RUNNING | HELD, [pod(14)], "14"),
    ],
    ids=[
        "label lost",
        "label lost while terminating",
        "another of that name",
        "deleted by force",
        "ended",
        "collected",
        "held",
    ],
)
async def test_pod_that_only_left_the_selection_stays(
    last: dict[str, Any], live: list[dict[str, Any]], kept: str | None
) -> None:
    cache = ObjectCache(lambda _: None)
    deleted = {"status": last["status"], "metadata": pod(12)["metadata"] | last.get("metadata", {})}
    source = Scripted([{"type": "DELETED", "object": deleted}, event("BOOKMARK", 13)])
    source.answers = live
    await play(source, streams=2, cache=cache)
    known = cache.get("n", "p")
    assert (known["metadata"]["resourceVersion"] if known is not None else None) == kept
    assert source.watched == ["10", "13"]


@pytest.mark.parametrize("finalizers", [[], [names.FINALIZER]], ids=["released", "label lost"])
async def test_policy_that_was_released_is_gone_without_a_request(finalizers: list[str]) -> None:
    policy = {"metadata": pod(10)["metadata"] | {"finalizers": finalizers}}
    source, cache = Scripted([{"type": "DELETED", "object": policy}]), ObjectCache(lambda _: None)
    source.answers = [pod(14)]
    watched = Informer(source, Kind.NETWORK_POLICY.resource, None, "", cache)
    async with asyncio.timeout(10):
        await watched._watch("10")
    assert len(source.answers) == (1 if not finalizers else 0)
    assert len(cache) == (0 if not finalizers else 1)


async def test_event_is_read_again_if_the_object_could_not_be() -> None:
    class Failing(Scripted):
        failed = False

        async def current(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
            if not self.failed:
                self.failed = True
                raise Unavailable(503, "no")
            return await super().current(resource, namespace, name)

    cache = ObjectCache(lambda _: None)
    source = Failing([event("DELETED", 12)], [event("DELETED", 12)])
    await play(source, streams=3, cache=cache)
    assert source.watched == ["10", "10", "12"]
    assert cache.get("n", "p") is None


class OfTwoVersions(Scripted):
    """A source with one pod without our label and one that gets it between the two lists."""

    async def list_pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, size: int = 100, known: Any = None
    ) -> AsyncIterator[tuple[list[Any], str]]:
        older, labelled = pod(3)["metadata"] | {"name": "older"}, pod(4)["metadata"]
        if selector == names.UNLABELLED_SELECTOR:
            yield [{"metadata": older}, {"metadata": labelled}], "10"
        else:
            yield [{"metadata": labelled | {"resourceVersion": "11"}}], "12"


async def test_children_without_their_label_are_listed_besides() -> None:
    cache = ObjectCache(lambda _: None)
    assert await relist(OfTwoVersions(), Kind.POD.resource, None, names.CHILD_SELECTOR, cache) == "12"
    assert {raw["metadata"]["name"]: raw["metadata"]["resourceVersion"] for raw in cache.values()} == {"older": "3", "p": "11"}


async def test_claims_of_others_are_not_listed_with_children_that_lost_their_label() -> None:
    source, cache = OfTwoVersions(), ObjectCache(lambda _: None)
    assert await relist(source, Kind.PVC.resource, None, names.LABEL_SHAREABLE, cache) == "12"
    assert {raw["metadata"]["name"] for raw in cache.values()} == {"p"}


async def test_a_watch_is_not_resumed_from_a_future_version() -> None:
    source = Scripted([event("BOOKMARK", 900)], [event("MODIFIED", 23)])
    source.latest = 30
    await play(source, streams=3)
    assert source.watched == ["10", "20", "23"]
    assert source.lists == 2


class Restored(Scripted):
    """A source whose list is a fixed one; `live` are the objects of etcd by name."""

    def __init__(self, listed: list[dict[str, Any]], version: int, live: list[dict[str, Any]]) -> None:
        super().__init__()
        self.listed = listed
        self.version = version
        self.live = {obj["metadata"]["name"]: obj for obj in live}
        self.got: list[str] = []

    async def list_pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, size: int = 100, known: Any = None
    ) -> AsyncIterator[tuple[list[Any], str]]:
        yield list(self.listed), str(self.version)

    async def current(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        self.got.append(name)
        if name not in self.live:
            raise NotFound(404, name)
        return self.live[name]


def named(name: str, version: int, uid: str = "1") -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": str(version)}}


def filled_cache() -> tuple[ObjectCache, list[str]]:
    """Return a cache in which alice was changed, bob deleted and dave created, all after version 60; and its changes."""
    changes: list[str] = []
    cache = ObjectCache(lambda obj: changes.append(obj["metadata"]["name"]))
    for obj in (named("alice", 50), named("alice", 90), named("bob", 51), named("dave", 91, uid="2")):
        cache.event("ADDED", obj)
    cache.event("DELETED", named("bob", 92))
    changes.clear()
    return cache, changes


def versions(cache: ObjectCache) -> dict[str, int]:
    return {obj["metadata"]["name"]: int(obj["metadata"]["resourceVersion"]) for obj in cache.values()}


@pytest.mark.parametrize("version", [60, 95], ids=["older-than-the-cache", "numbers-have-caught-up"])
async def test_a_list_after_etcd_was_restored_decides_about_everything(version: int) -> None:
    cache, changes = filled_cache()
    cache.add_restore_handler(lambda: changes.append("restored"))
    restored = [named("alice", 50), named("bob", 51)]
    await relist(Restored(restored, version, restored), Kind.POD.resource, None, "", cache)
    assert versions(cache) == {"alice": 50, "bob": 51}
    assert sorted(changes) == ["alice", "bob", "dave", "restored"]
    cache.event("MODIFIED", named("alice", 61))
    assert versions(cache)["alice"] == 61


async def test_a_list_of_a_server_that_lags_overwrites_nothing() -> None:
    for live in ([named("alice", 90), named("dave", 91, uid="2")], [named("alice", 99), named("bob", 98, uid="3")]):
        cache, _ = filled_cache()
        source = Restored([named("alice", 50), named("bob", 51)], 60, live)
        await relist(source, Kind.POD.resource, None, "", cache)
        assert versions(cache)["alice"] == 90
        assert "bob" not in versions(cache)


async def test_a_deletion_that_is_newer_than_a_list_is_no_proof_of_a_restoration() -> None:
    cache = ObjectCache(lambda _: None)
    cache.add_restore_handler(lambda: pytest.fail("nothing was restored"))
    cache.event("ADDED", named("alice", 50))
    cache.event("DELETED", named("alice", 90))
    await relist(Restored([named("alice", 50)], 60, []), Kind.POD.resource, None, "", cache)
    assert versions(cache) == {}


async def test_objects_that_only_the_lost_future_had_are_removed() -> None:
    cache = ObjectCache(lambda _: None)
    for number in range(5):
        cache.event("ADDED", named(f"dave-{number}", 90 + number, uid=str(number)))
    await relist(Restored([], 60, []), Kind.POD.resource, None, "", cache)
    assert versions(cache) == {}


def test_silent_watch_is_not_hidden_by_another_of_its_resource() -> None:
    claims, pods = Kind.PVC.resource, Kind.POD.resource
    found = longest_silences([(claims, 500.0), (pods, 2.0), (claims, 1.0), (USER_STORAGES, 0.0)])
    assert found == {"persistentvolumeclaims": 500, "pods": 2, "userstorages": 0}
