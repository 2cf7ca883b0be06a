"""The end of a deletion in the foreground: our finalizer is removed, and the garbage collector's keeps the object for a while."""

from collections.abc import Callable
from typing import Any

from support.builders import NOW, storage_object
from userstorage_operator.api.errors import NotFound
from userstorage_operator.api.names import FINALIZER, FOREGROUND_FINALIZER
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker

KEY = Key("users", "alice")


class APIServer:
    """An API server with alice's UserStorage, whose deletion waits for `finalizers`, and without any child."""

    def __init__(self, *finalizers: str) -> None:
        self.requests: list[str] = []
        meta = {"finalizers": list(finalizers), "deletionTimestamp": "2026-01-31T11:59:50Z"}
        self.alice = storage_object(meta=meta)

    async def json_patch(self, *_: Any) -> Unstructured:
        self.requests.append("patch")
        meta = self.alice["metadata"]
        left = [finalizer for finalizer in meta["finalizers"] if finalizer != FINALIZER]
        self.alice = self.alice | {"metadata": meta | {"finalizers": left, "resourceVersion": "200"}}
        return self.alice

    async def get(self, *_: Any) -> Unstructured:
        self.requests.append("get")
        raise NotFound(404, "not here")

    async def merge_patch(self, *arguments: Any) -> Unstructured:
        self.requests.append("status")
        self.alice = self.alice | {"status": arguments[3]["status"]}
        return self.alice

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    list_all = create = delete = unasked


class NoRecorder:
    def record(self, *_: Any) -> None:
        """Drop the event."""


def reconciler(server: APIServer) -> tuple[Reconciler, Caches]:
    caches = Caches(lambda _: None, lambda _: None)
    caches.cache(USER_STORAGES).event("ADDED", server.alice)
    ignore: Callable[[Any], None] = lambda _: None  # noqa: E731
    return Reconciler(server, caches, RolloutTracker(ignore, ignore), NoRecorder(), lambda: NOW), caches


async def test_event_of_a_child_does_not_remove_the_finalizer_again() -> None:
    server = APIServer(FINALIZER, FOREGROUND_FINALIZER)
    alice, caches = reconciler(server)
    await alice.reconcile(KEY, 0)
    assert server.requests == ["get", "patch"]
    raw = caches.storage(KEY)
    assert raw is not None
    assert raw["metadata"]["finalizers"] == [FOREGROUND_FINALIZER]
    await alice.reconcile(KEY, 0)  # the garbage collector has deleted the Service; the watch has not reported our patch yet
    assert [request for request in server.requests[2:] if request != "status"] == []


async def test_object_without_a_finalizer_is_gone() -> None:
    server = APIServer(FINALIZER)
    alice, caches = reconciler(server)
    await alice.reconcile(KEY, 0)
    assert caches.storage(KEY) is None
    await alice.reconcile(KEY, 0)
    assert server.requests == ["get", "patch"]
