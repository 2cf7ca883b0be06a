"""The NetworkPolicy of a UserStorage that is gone: released by the reconcile of the object that has its name."""

from itertools import count
from typing import Any

from support.builders import CREATED, NOW, desired_of, storage_object, stored
from userstorage_operator.api.errors import NotFound, OperatorError, Unavailable
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker

NAME = "user-storage-bob"
"""The name of alice's UserStorage, and of the children of a former user."""


class APIServer:
    """An API server that stores what is created, and fails to read the pod of the former user with `failure` if there is one."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
        self.objects: dict[tuple[Resource, str], Unstructured] = {}
        self.versions = count(1000)

    def store(self, resource: Resource, obj: Unstructured) -> Unstructured:
        meta = {"uid": f"uid-{resource.plural}", "creationTimestamp": CREATED, **obj["metadata"]}
        found = obj | {"metadata": meta | {"resourceVersion": str(next(self.versions))}}
        self.objects[resource, meta["name"]] = found
        return found

    async def create(self, resource: Resource, _: str, body: Unstructured) -> Unstructured:
        return self.store(resource, body)

    async def get(self, resource: Resource, _: str | None, name: str) -> Unstructured:
        if (resource, name) == (Kind.POD.resource, NAME) and self.failure is not None:
            raise self.failure
        if (resource, name) not in self.objects:
            raise NotFound(404, "not here")
        return self.objects[resource, name]

    async def list_all(self, *_: Any, **__: Any) -> tuple[list[Unstructured], str]:
        return [], "1"

    async def merge_patch(self, resource: Resource, _: str | None, name: str, patch: Unstructured, *__: Any) -> Unstructured:
        return self.store(resource, self.objects[resource, name] | {"status": patch["status"]})

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    json_patch = delete = unasked


class NoRecorder:
    def record(self, *_: Any) -> None:
        """Drop the event."""


async def test_former_policy_stays_with_a_pod_that_has_lost_its_labels() -> None:
    bob = desired_of(storage_object("bob", meta={"name": "bob", "uid": "uid-bob"}))
    former, pod = stored(bob.network_policy or {}), stored(bob.pod, labels={"app": "platform"})
    former["metadata"] |= {"deletionTimestamp": "2026-01-31T11:59:50Z"}
    server, caches = APIServer(None), Caches(lambda _: None, lambda _: None)
    server.store(Kind.POD.resource, pod)
    caches.cache(Kind.NETWORK_POLICY.resource).event("ADDED", server.store(Kind.NETWORK_POLICY.resource, former))
    rollouts = RolloutTracker(lambda _: None, lambda _: None)
    result = await Reconciler(server, caches, rollouts, NoRecorder(), lambda: NOW).reconcile(Key("users", NAME), 0)
    assert (result.action, result.retry) == ("patch NetworkPolicy", True)
    assert "still exists" in (result.error or "")


async def test_failed_release_of_a_former_policy_does_not_hide_what_was_created() -> None:
    alice = storage_object(meta={"name": NAME})
    former = stored(desired_of(storage_object("bob", meta={"name": "bob", "uid": "uid-bob"})).network_policy or {})
    former["metadata"] |= {"deletionTimestamp": "2026-01-31T11:59:50Z"}
    for failure in (OperatorError("not now", "Refused"), Unavailable(503, "not now"), ZeroDivisionError()):
        server, caches = APIServer(failure), Caches(lambda _: None, lambda _: None)
        for resource, obj in ((USER_STORAGES, alice), (Kind.NETWORK_POLICY.resource, former)):
            caches.cache(resource).event("ADDED", server.store(resource, obj))
        rollouts = RolloutTracker(lambda _: None, lambda _: None)
        result = await Reconciler(server, caches, rollouts, NoRecorder(), lambda: NOW).reconcile(Key("users", NAME), 0)
        assert (result.action, result.retry) == ("patch NetworkPolicy", True)
        assert (Kind.POD.resource, "user-storage-alice") in server.objects
        found = {entry["type"]: entry for entry in server.objects[USER_STORAGES, NAME]["status"]["conditions"]}
        assert found["Ready"]["reason"] == "PodPending"
        assert found["Reconciling"]["reason"] == "Retrying"
        assert found["PodUpToDate"]["status"] == "True"
