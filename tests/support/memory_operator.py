"""One process of the operator on an API server in memory: the real caches, informers, sweep and reconciler, driven step by step.

Not real are the connection, the queue of the workers, whose order a test chooses, and kopf, which only passes events on.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from support.memory_api import MemoryAPI, with_metadata
from userstorage_operator.api.errors import Conflict, Unavailable
from userstorage_operator.api.names import CHILD_SELECTOR, FIELD_MANAGER
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.informer import Informer, relist
from userstorage_operator.informers.sweep import Sweep
from userstorage_operator.observed import backoff
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.status.events import StatusEvent

OWN = (USER_STORAGE_CLASSES, USER_STORAGES)
T = TypeVar("T")


class Killed(BaseException):
    """The process was killed, with no chance to react."""


class Trouble:
    """What happens around the n-th write of a reconcile. `act` runs before it (or after it, if `after`); it may raise."""

    def __init__(self, at: int, act: Callable[[], Awaitable[None]], *, after: bool) -> None:
        self.at, self.act, self.after = at, act, after
        self.happened = False


async def kill() -> None:
    """End the process."""
    raise Killed


async def not_available() -> None:
    """Answer as an overloaded API server."""
    raise Unavailable(503, "the server is currently unable to handle the request")


async def conflict() -> None:
    """Answer as if the object had changed, although it has not."""
    raise Conflict(409, "the object has been modified")


class MemoryClient:
    """The API client of one process: `reconcile.ports.Cluster`, and the source of informers and sweep."""

    def __init__(self, api: MemoryAPI) -> None:
        self._api = api
        self.trouble: Trouble | None = None
        self.writes = 0
        """Number of write requests since it was set to 0 last."""
        self.list_version: int | None = None
        """The version at which lists are answered, as by a server that lags behind; None for the current one."""
        self.deliver = 0
        """How many more events the watches may deliver."""

    async def _write(self, write: Callable[[], Unstructured]) -> Unstructured:
        self.writes += 1
        trouble = self.trouble if self.trouble is not None and self.trouble.at == self.writes else None
        if trouble is not None and not trouble.after:
            trouble.happened = True
            await trouble.act()
        answer = write()
        if trouble is not None and trouble.after:
            trouble.happened = True
            await trouble.act()
        return answer

    async def create(self, resource: Resource, namespace: str, body: Unstructured) -> Unstructured:
        return await self._write(lambda: self._api.create(resource, namespace, body, FIELD_MANAGER))

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Unstructured, subresource: str | None = None
    ) -> Unstructured:
        return await self._write(lambda: self._api.merge_patch(resource, namespace, name, patch, FIELD_MANAGER, subresource))

    async def json_patch(self, resource: Resource, namespace: str, name: str, patch: list[Unstructured]) -> Unstructured:
        return await self._write(lambda: self._api.json_patch(resource, namespace, name, patch, FIELD_MANAGER))

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        uid: str,
        grace_period: int,
        propagation: str,
        resource_version: str | None = None,
    ) -> Unstructured:
        return await self._write(
            lambda: self._api.delete(
                resource,
                namespace,
                name,
                FIELD_MANAGER,
                uid=uid,
                propagation=propagation,
                grace_period=grace_period,
                resource_version=resource_version,
            )
        )

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        return self._api.get(resource, namespace, name)

    current = get

    async def list_all(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> tuple[list[Unstructured], str]:
        found = [] if fields else [obj for obj in self._api.of(resource).values() if selects(selector, obj)]
        return found, str(self._api.version)

    async def pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> AsyncIterator[list[Unstructured]]:
        yield (await self.list_all(resource, namespace, selector, fields=fields))[0]

    async def list_pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, size: int = 100, known: Any = None
    ) -> AsyncIterator[tuple[list[Unstructured], str]]:
        version = self._api.version if self.list_version is None else self.list_version
        yield [obj for obj in self._api.at(resource, version) if selects(selector, obj)], str(version)

    async def latest_version(self, resource: Resource, namespace: str | None) -> int:
        return self._api.version

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[Unstructured]:
        for change in self._api.changes.get(resource, ()):
            if change.version <= int(resource_version):
                continue
            if not self.deliver:
                return
            was, does = (obj is not None and selects(selector, obj) for obj in (change.before, change.after))
            if was or does:
                self.deliver -= 1
                kind = "DELETED" if not does else "MODIFIED" if was else "ADDED"
                shown = (
                    change.before if not does and change.before is not None else change.obj
                )  # what leaves is shown as it was
                yield {"type": kind, "object": with_metadata(shown, resourceVersion=str(change.version))}
            else:
                yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(change.version)}}}


def selects(selector: str, obj: Unstructured) -> bool:
    """Whether a label selector of the forms `a=b`, `a!=b` and `a`, joined by commas, selects the object."""
    labels = obj["metadata"].get("labels") or {}
    for term in filter(None, selector.split(",")):
        key, equals, value = term.partition("=")
        if not equals:
            matches = key in labels
        elif key.endswith("!"):
            matches = labels.get(key[:-1]) != value
        else:
            matches = labels.get(key) == value
        if not matches:
            return False
    return True


class Recorder:
    """Drops the Events."""

    def record(self, regarding: Unstructured, event: StatusEvent) -> None:
        pass


class Unobserved:
    """Receives the results of sweeps."""

    def swept(self, seconds: float) -> None:
        pass

    def sweep_failed(self) -> None:
        pass


class MemoryOperator:
    """A process of the operator that leads, with empty caches until `start`."""

    def __init__(self, api: MemoryAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._api = api
        self._loop = loop
        self.client = client = MemoryClient(api)
        self.queue: dict[Key, None] = {}
        self.due: dict[Key, datetime] = {}
        self.failures: Counter[Key] = Counter()
        self.running: set[Key] = set()
        self.caches = Caches(self.add, lambda _: None)
        self.rollouts = RolloutTracker(self.add, lambda _: None, lambda: api.now.timestamp())  # noqa: PLW0108  # `now` changes
        self.reconciler = Reconciler(client, self.caches, self.rollouts, Recorder(), lambda: api.now)
        self.informers = {
            **{
                kind.resource: Informer(client, kind.resource, None, CHILD_SELECTOR, self.caches.cache(kind.resource))
                for kind in Kind
            },
            STORAGE_CLASSES: Informer(client, STORAGE_CLASSES, None, "", self.caches.cache(STORAGE_CLASSES)),
        }
        self.seen: dict[Resource, int] = {}
        """Resource of our own -> the version up to which kopf's watch has delivered its events."""
        self.sweep_ = Sweep(client, self.caches, [None], self.add, Unobserved())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end."""
        return self._loop.run_until_complete(work)

    def add(self, key: Key) -> None:
        """Queue a key, also one that waits for the end of its backoff."""
        self.due.pop(key, None)
        self.queue[key] = None

    def start(self, stale_by: int = 0) -> None:
        """Fill the caches; with `stale_by`, from lists that are that many versions old."""
        self.client.list_version = max(0, self._api.version - stale_by)
        for resource in (*OWN, *self.informers):
            self.relist(resource)
        self.client.list_version = None
        self.rollouts.expect(self.caches.keys())

    def relist(self, resource: Resource) -> None:
        """List a resource again, as after a watch that could not resume."""
        if resource in OWN:
            version = self.run(relist(self.client, resource, None, "", self.caches.cache(resource)))
            self.seen[resource] = int(version or 0)
        else:
            self.run(self.informers[resource]._list())

    def deliver(self, resource: Resource, events: int) -> None:
        """Deliver up to so many events of the watch of a resource."""
        self.client.deliver = events
        if resource not in OWN:
            informer = self.informers[resource]
            assert informer._version is not None
            self.run(informer._watch(informer._version))
            return
        for change in self._api.changes.get(resource, ())[:]:
            if change.version > self.seen[resource] and self.client.deliver:
                self.client.deliver -= 1
                kind = "DELETED" if change.after is None else "ADDED" if change.before is None else "MODIFIED"
                self.caches.cache(resource).event(kind, change.obj)
                self.seen[resource] = change.version

    def miss(self, resource: Resource) -> None:
        """Lose all events of a watch that it has not delivered yet."""
        if resource in OWN:
            self.seen[resource] = self._api.version
        else:
            self.informers[resource]._version = str(self._api.version)

    def sweep(self, stale_by: int = 0) -> None:
        """List everything, and queue every UserStorage."""
        self.client.list_version = max(0, self._api.version - stale_by) if stale_by else None
        self.run(self.sweep_.once())
        self.client.list_version = None

    def wake(self) -> None:
        """Queue the keys whose pause is over."""
        for key in [key for key, due in self.due.items() if due <= self._api.now]:
            self.add(key)

    def reconcile(self, key: Key, trouble: Trouble | None = None) -> None:
        """Reconcile one key as a worker does. Raises Killed if `trouble` says so."""
        self.run(self.process(key, trouble))

    async def process(self, key: Key, trouble: Trouble | None = None) -> None:
        """Reconcile one key as a worker does; `trouble` happens at one of its writes."""
        self.queue.pop(key, None)
        self.running.add(key)
        self.client.trouble, self.client.writes = trouble, 0
        result = await self.reconciler.reconcile(key, self.failures[key])
        self.client.trouble = None
        self.running.discard(key)
        if result.exception is not None:
            raise AssertionError(f"a bug of the operator in the reconcile of {key}") from result.exception
        pause: float | None
        if result.retry:
            self.failures[key] += 1
            pause = max(backoff.delay(self.failures[key]), result.retry_after)
        else:
            self.failures.pop(key, None)
            pause = result.requeue_after
        if pause is not None and key not in self.queue:
            due = self._api.now + timedelta(seconds=pause)
            self.due[key] = min(due, self.due.get(key, due))
