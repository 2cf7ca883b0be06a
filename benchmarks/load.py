"""The work for a contender: many UserStorages at once, watched until they are Ready, and later until they are gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from statistics import quantiles

from apiserver import USER_STORAGES, ApiServer, Object

from localcluster.progress import MORE, Report, silent

_AT_ONCE = 16
"""Requests of the harness at the same time."""


@dataclass
class Timeline:
    """When each object was asked for and when it was seen in the wanted state, in seconds since the first request."""

    asked: dict[str, float] = field(default_factory=dict)
    done: dict[str, float] = field(default_factory=dict)

    @property
    def makespan(self) -> float:
        """Seconds from the first request until the last object was in the wanted state."""
        return max(self.done.values())

    def percentile(self, percent: int) -> float:
        """Return a percentile of the seconds from an object's request to its wanted state."""
        waited = [done - self.asked[name] for name, done in self.done.items()]
        return quantiles(waited, n=100, method="inclusive")[percent - 1] if len(waited) > 1 else waited[0]

    def after(self, share: float) -> float:
        """Return the seconds until that share of the objects was in the wanted state."""
        times = sorted(self.done.values())
        return times[max(0, round(len(times) * share) - 1)]


def users(count: int, prefix: str = "user") -> list[Object]:
    """Return UserStorages with names and user ids of their own."""
    return [
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": f"{prefix}-{number}"},
            "spec": {"userID": f"{prefix}-{number}"},
        }
        for number in range(count)
    ]


async def create_namespace(api: ApiServer, name: str) -> None:
    """Create a namespace, and wait for its service account, without which it takes no pods."""
    await api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    while not (await api.list(f"/api/v1/namespaces/{name}/serviceaccounts"))[0]:  # noqa: ASYNC110  # another process creates it
        await asyncio.sleep(0.1)


async def at_once(work: Callable[[Object], Awaitable[object]], objects: Iterable[Object], limit: int = _AT_ONCE) -> None:
    """Do the work on all objects, at most `limit` at a time."""
    turns = asyncio.Semaphore(limit)

    async def one(obj: Object) -> None:
        async with turns:
            await work(obj)

    async with asyncio.TaskGroup() as group:
        for obj in objects:
            group.create_task(one(obj))


async def create_until_ready(
    api: ApiServer, namespace: str, objects: list[Object], timeout: float = 3600, report: Report = silent
) -> Timeline:
    """Create the UserStorages, and wait until each is Ready. Raises TimeoutError."""
    path = user_storages(namespace)
    return await follow(api, path, objects, lambda obj: api.request("POST", path, obj), is_ready, timeout, report)


async def delete_until_gone(api: ApiServer, namespace: str, timeout: float = 3600, report: Report = silent) -> Timeline:
    """Delete all UserStorages of the namespace in the background, and wait until each is gone. Raises TimeoutError."""
    path = user_storages(namespace)
    objects, _ = await api.list(path)

    def delete(obj: Object) -> Awaitable[object]:
        return api.request("DELETE", f"{path}/{obj['metadata']['name']}", {"propagationPolicy": "Background"})

    return await follow(api, path, objects, delete, lambda event: event["type"] == "DELETED", timeout, report)


def user_storages(namespace: str) -> str:
    """Return the path of the UserStorages of a namespace."""
    return f"{USER_STORAGES}/namespaces/{namespace}/userstorages"


def is_ready(event: Object) -> bool:
    """Whether the event shows an object whose phase is Ready."""
    return phase(event) == "Ready"


def phase(event: Object) -> str:
    """Return the phase of the object in an event of a watch; empty if the object is gone."""
    return event["object"].get("status", {}).get("phase", "") if event["type"] != "DELETED" else ""


async def follow(
    api: ApiServer,
    path: str,
    objects: list[Object],
    work: Callable[[Object], Awaitable[object]],
    reached: Callable[[Object], bool],
    timeout: float,
    report: Report = silent,
) -> Timeline:
    """Do the work on all objects, and wait until an event of each has reached what is waited for. Raises TimeoutError."""
    line = Timeline()
    _, version = await api.list(path)
    start = time.monotonic()

    async def ask(obj: Object) -> None:
        line.asked[obj["metadata"]["name"]] = time.monotonic() - start
        await work(obj)

    async def watch() -> None:
        at = version
        while len(line.done) < len(objects):
            async for event in api.watch(path, at):
                at = event["object"]["metadata"]["resourceVersion"]
                name = event["object"]["metadata"].get("name")
                if event["type"] != "BOOKMARK" and name in line.asked and reached(event):
                    line.done.setdefault(name, time.monotonic() - start)
                    report(f"{len(line.done)} of {len(objects)} after {time.monotonic() - start:.0f} s{MORE}")
                if len(line.done) >= len(objects):
                    return

    async with asyncio.timeout(timeout), asyncio.TaskGroup() as group:
        group.create_task(watch())
        await at_once(ask, objects)
    return line
