"""Every change of the objects of a namespace, in the order in which etcd stored them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from support.live import Live
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured

RESOURCES = (USER_STORAGES, *(kind.resource for kind in Kind if not kind.resource.optional))
_EXPIRED = 410


@dataclass(frozen=True, slots=True)
class Change:
    """One version of an object."""

    revision: int
    """Its resourceVersion: all objects of a cluster share one order."""
    at: float
    """When it was seen, in seconds of `time.monotonic`."""
    type: str
    """ADDED, MODIFIED or DELETED."""
    resource: str
    raw: Unstructured
    """The object, without its managed fields. The last version if it is DELETED."""
    initial: bool = False
    """Whether the object existed before the recording: its revision is that of its last change."""

    @property
    def name(self) -> str:
        """The name of the object."""
        name: str = self.raw["metadata"]["name"]
        return name

    @property
    def uid(self) -> str:
        """The uid of the object."""
        uid: str = self.raw["metadata"]["uid"]
        return uid

    @property
    def owner(self) -> str | None:
        """The uid of the UserStorage that controls the object, if one does."""
        for reference in self.raw["metadata"].get("ownerReferences", ()):
            if reference.get("controller") and reference["kind"] == USER_STORAGES.kind:
                uid: str = reference["uid"]
                return uid
        return None


Objects = dict[tuple[str, str], Unstructured]
"""(plural, name) -> object."""


@dataclass
class History:
    """The changes of one namespace."""

    changes: list[Change] = field(default_factory=list)
    """In the order in which they were seen, which differs between resources."""
    _versions: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, event_type: str, resource: str, raw: Unstructured, *, initial: bool = False) -> None:
        """Add a version of an object. A version that is known already changes nothing."""
        meta = raw["metadata"]
        key, version = (resource, meta["name"]), meta["resourceVersion"]
        if event_type == "DELETED":
            self._versions.pop(key, None)
        elif self._versions.get(key) == version:
            return
        else:
            self._versions[key] = version
        kept = raw | {"metadata": {name: value for name, value in meta.items() if name != "managedFields"}}
        self.changes.append(Change(int(version), time.monotonic(), event_type, resource, kept, initial))

    def replace(self, resource: str, objects: list[Unstructured], version: str, *, initial: bool = False) -> None:
        """Add a full list of one resource, with the resourceVersion of the list: what it lacks is gone."""
        for raw in objects:
            self.add("ADDED", resource, raw, initial=initial)
        listed = {raw["metadata"]["name"] for raw in objects}
        for change in self.in_order():
            if change.resource == resource and (resource, change.name) in self._versions and change.name not in listed:
                gone = change.raw["metadata"] | {"resourceVersion": version}
                self.add("DELETED", resource, change.raw | {"metadata": gone})

    def in_order(self) -> list[Change]:
        """Return the changes in the order of their revisions."""
        return sorted(self.changes, key=lambda change: change.revision)

    def states(self) -> Iterator[tuple[Change, Objects]]:
        """Yield each change with all objects as they were after it. The dict is reused."""
        objects: Objects = {}
        for change in self.in_order():
            if change.type == "DELETED":
                objects.pop((change.resource, change.name), None)
            else:
                objects[change.resource, change.name] = change.raw
            yield change, objects

    def until(self, revision: int) -> "History":
        """Return the part up to a revision."""
        return History([change for change in self.changes if change.revision <= revision])

    def forget(self, revision: int) -> None:
        """Forget how the objects came to be as they were at a revision, so that a recording of hours needs little memory."""
        objects: dict[tuple[str, str], Change] = {}
        for change in self.until(revision).in_order():
            if change.type == "DELETED":
                objects.pop((change.resource, change.name), None)
            else:
                objects[change.resource, change.name] = replace(change, type="ADDED", initial=True, revision=revision)
        self.changes = [*objects.values(), *(change for change in self.changes if change.revision > revision)]

    def of(self, resource: Resource, event_type: str) -> list[Change]:
        """Return the changes of one type of one resource, in order."""
        return [change for change in self.in_order() if (change.resource, change.type) == (resource.plural, event_type)]

    async def caught_up(self, live: Live) -> None:
        """Wait until the history shows what the API server has."""

        async def is_complete() -> bool:
            current = {}
            for resource in RESOURCES:
                for raw in (await live.client.list_all(resource, live.namespace))[0]:
                    current[resource.plural, raw["metadata"]["name"]] = raw["metadata"]["resourceVersion"]
            return current == self._versions

        await live.until(is_complete)


@asynccontextmanager
async def recording(live: Live) -> AsyncIterator[History]:
    """Record the namespace while the block runs, with watches of `live`. What existed before is in the history as well."""
    history = History()
    versions = {resource: await _list(history, live, resource, initial=True) for resource in RESOURCES}
    watches = [asyncio.create_task(_watch(history, live, resource, versions[resource])) for resource in RESOURCES]
    try:
        yield history
        failed = [watch for watch in watches if watch.done()]
        assert not failed, f"the recording ended: {failed}"
    finally:
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _list(history: History, live: Live, resource: Resource, *, initial: bool = False) -> str:
    objects, version = await live.client.list_all(resource, live.namespace)
    history.replace(resource.plural, objects, version, initial=initial)
    return version


async def _watch(history: History, live: Live, resource: Resource, version: str) -> None:
    while True:
        # A test may stop the API server: the watch resumes from the last version.
        with contextlib.suppress(ClusterError):
            async for event in live.client.watch(resource, live.namespace, "", version):
                if event["type"] == "ERROR":
                    assert event["object"]["code"] == _EXPIRED, event
                    version = await _list(history, live, resource)  # etcd has forgotten what was between
                    break
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    history.add(event["type"], resource.plural, event["object"])
        await asyncio.sleep(0.1)
