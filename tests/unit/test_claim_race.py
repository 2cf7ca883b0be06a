"""Two UserStorages name one claim, and their reconciles run concurrently: there are never two pods on the claim."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from itertools import count
from typing import Any

from support.builders import CREATED, NOW, bound_claim, desired_of, storage_object
from support.kubectl import PATIENCE
from userstorage_operator.api.errors import NotFound, OperatorError, Refused
from userstorage_operator.api.names import LABEL_SHAREABLE
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker

OWNER = storage_object("alice", meta={"name": "alice", "uid": "uid-alice"})
GUEST = storage_object("guest", meta={"name": "guest", "uid": "uid-guest"}, storage={"claimName": "user-storage-alice"})
"""A user of a claim that was created for another user, who ranks first as long as neither has a pod."""


class GatedAPIServer:
    """An API server that delays the creation of a pod until `answer_pod` is set, and refuses it if `refusal` is set."""

    def __init__(self) -> None:
        self.objects: dict[tuple[Resource, str], Unstructured] = {}
        self.versions = count(1000)
        self.asked_for_pod, self.answer_pod = asyncio.Event(), asyncio.Event()
        self.refusal: OperatorError | None = None

    @property
    def pods(self) -> list[str]:
        return [name for resource, name in self.objects if resource is Kind.POD.resource]

    def store(self, resource: Resource, obj: Unstructured) -> Unstructured:
        meta = obj["metadata"]
        stored = {"uid": f"uid-{resource.plural}-{meta['name']}", "creationTimestamp": CREATED, **meta}
        self.objects[resource, meta["name"]] = obj | {"metadata": stored | {"resourceVersion": str(next(self.versions))}}
        return self.objects[resource, meta["name"]]

    async def create(self, resource: Resource, _: str, body: Unstructured) -> Unstructured:
        if resource is Kind.POD.resource:
            self.asked_for_pod.set()
            await self.answer_pod.wait()
            if self.refusal is not None:
                raise self.refusal
        return self.store(resource, body)

    async def get(self, resource: Resource, _: str | None, name: str) -> Unstructured:
        if (resource, name) not in self.objects:
            raise NotFound(404, "not here")
        return self.objects[resource, name]

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[list[Unstructured]]:
        yield []

    async def merge_patch(
        self, resource: Resource, _: str | None, name: str, patch: Unstructured, subresource: str | None = None
    ) -> Unstructured:
        if subresource is None:
            return self.objects[resource, name]
        return self.store(resource, self.objects[resource, name] | {"status": patch["status"]})

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    list_all = json_patch = delete = unasked


class NullEventRecorder:
    """Drops all events."""

    def record(self, *_: Any) -> None:
        """Do nothing."""


class ClaimRace:
    """A reconciler with the guest and the bound claim; the claim's owner does not exist yet."""

    def __init__(self) -> None:
        self.server, self.woken = GatedAPIServer(), set[Key]()
        self.caches = Caches(self.woken.add, lambda _: None)
        book = RolloutTracker(self.woken.add, lambda _: None)
        self.reconciler = Reconciler(self.server, self.caches, book, NullEventRecorder(), lambda: NOW)
        claim = desired_of(OWNER).pvc
        assert claim is not None
        claim["metadata"]["labels"][LABEL_SHAREABLE] = "true"
        self.deliver("ADDED", Kind.PVC.resource, bound_claim(claim))
        self.deliver("ADDED", USER_STORAGES, GUEST)

    def deliver(self, event_type: str, resource: Resource, obj: Unstructured) -> None:
        self.caches.cache(resource).event(event_type, self.server.store(resource, obj))

    async def reconcile(self, name: str) -> None:
        await self.reconciler.reconcile(Key("users", name), 0)

    async def create_owner_during_pod_creation(self) -> "asyncio.Task[None]":
        guest = asyncio.create_task(self.reconcile("guest"))
        await self.server.asked_for_pod.wait()
        self.deliver("ADDED", USER_STORAGES, OWNER)
        self.server.asked_for_pod.clear()
        await self.reconcile("alice")
        return guest

    def storage_ready(self, name: str) -> str:
        conditions = self.server.objects[USER_STORAGES, name]["status"]["conditions"]
        return next(str(found["reason"]) for found in conditions if found["type"] == "StorageReady")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, PATIENCE))


def test_claim_stays_in_use_while_another_user_creates_a_pod_on_it() -> None:
    async def story() -> None:
        platform = ClaimRace()
        guest = await platform.create_owner_during_pod_creation()
        assert platform.storage_ready("alice") == "ClaimInUse"
        platform.server.answer_pod.set()
        await guest
        await platform.reconcile("alice")
        assert platform.server.pods == ["user-storage-guest"]

    run(story())


def test_refused_pod_releases_claim() -> None:
    async def story() -> None:
        platform = ClaimRace()
        guest = await platform.create_owner_during_pod_creation()
        platform.woken.clear()
        platform.server.refusal = Refused(403, "not this one")
        platform.server.answer_pod.set()
        await guest
        assert platform.woken == {Key("users", "alice")}
        platform.server.refusal = None
        await platform.reconcile("alice")
        await platform.reconcile("guest")
        assert platform.server.pods == ["user-storage-alice"]
        assert platform.storage_ready("guest") == "ClaimInUse"

    run(story())


def test_suspended_user_without_pod_releases_claim() -> None:
    async def story() -> None:
        platform = ClaimRace()
        guest = await platform.create_owner_during_pod_creation()
        platform.server.answer_pod.set()
        await guest
        suspended = platform.server.objects[USER_STORAGES, "guest"]
        spec = suspended["spec"] | {"replicas": 0}
        platform.deliver("MODIFIED", USER_STORAGES, suspended | {"spec": spec})
        platform.deliver("DELETED", Kind.POD.resource, platform.server.objects[Kind.POD.resource, "user-storage-guest"])
        del platform.server.objects[Kind.POD.resource, "user-storage-guest"]
        platform.woken.clear()
        await platform.reconcile("guest")
        assert platform.woken == {Key("users", "alice")}
        await platform.reconcile("alice")
        assert platform.server.pods == ["user-storage-alice"]

    run(story())
