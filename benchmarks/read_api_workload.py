"""The workload of the read API: users in ten namespaces, and changes of them during the measurement."""

import asyncio
import itertools
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from localcluster.progress import Report
from userstorage_operator.api.resources import USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import login

NAMESPACES = 10
_NAMES = [f"bench-{number}" for number in range(NAMESPACES)]
_INTERVAL = 0.05
"""Seconds between changes: twenty a second."""
_PROBE_EVERY = 20
"""Of this many changes, one is polled until the read API returns it."""
_EXTRAS = 5
"""The number of extra objects. Each second one is created and the oldest is deleted."""
_AT_ONCE = 16
_LISTS = re.compile(r'^apiserver_request_total\{[^}]*[,{]resource="(\w+)"[^}]*verb="LIST"[^}]*\} (\S+)', re.MULTILINE)
_NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


def url_mix(base: str) -> list[str]:
    """Return the URLs. Of ten, seven get one object, two a user's objects, and one lists the hundred of a namespace."""
    urls = []
    for number in range(100):
        namespace = _NAMES[number % NAMESPACES]
        urls += [f"{base}/v1/namespaces/{namespace}/userstorages/user-{(number + step) % 100}" for step in range(0, 70, 10)]
        urls += [f"{base}/v1/users/{namespace}-user-{(number + step) % 100}" for step in (3, 50)]
        urls.append(f"{base}/v1/userstorages?namespace={namespace}&limit=100")
    return urls


async def run(command: list[str]) -> str:
    """Return the output of a command. Raises CalledProcessError if it fails."""
    done = await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


async def lists(kubectl: list[str]) -> Counter[str]:
    """Return the number of LIST requests of the API server, by resource."""
    counted: Counter[str] = Counter()
    for resource, value in _LISTS.findall(await run([*kubectl, "get", "--raw", "/metrics"])):
        counted[resource] += int(float(value))
    return counted


@dataclass
class Workload:
    """The objects, and the measurements of their changes in the current run."""

    client: KubeClient
    kubectl: list[str]
    token: str
    changes: int = 0
    visible_after: list[float] = field(default_factory=list)
    """Seconds from before a change was sent until the read API returned it."""
    age_header: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    async def create(cls, kubectl: list[str], users: int, report: Report) -> "Workload":
        """Create `users` UserStorages in each namespace and wait until they are Ready; create a backend that may read them."""
        client = KubeClient(await login(), NoopObserver())
        for name in _NAMES:
            await client.create(_NAMESPACE, "", {"metadata": {"name": name}})
        for command in (
            ["create", "serviceaccount", "backend", "-n", "default"],
            ["create", "clusterrolebinding", "backend", "--clusterrole=userstorage-view", "--serviceaccount=default:backend"],
        ):
            await run([*kubectl, *command])
        token = (await run([*kubectl, "create", "token", "backend"])).strip()
        limit = asyncio.Semaphore(_AT_ONCE)

        async def create_user(namespace: str, number: int) -> None:
            async with limit:
                await client.create(USER_STORAGES, namespace, _body(namespace, f"user-{number}"))

        async with asyncio.TaskGroup() as group:
            for namespace, number in itertools.product(_NAMES, range(users)):
                group.create_task(create_user(namespace, number))
        async with asyncio.timeout(600):
            while waiting := [
                raw for raw in (await client.list_all(USER_STORAGES, None))[0] if raw.get("status", {}).get("phase") != "Ready"
            ]:
                report(f"{len(waiting)} of {users * NAMESPACES} objects not Ready yet")
                await asyncio.sleep(2)
        return cls(client, kubectl, token)

    async def change(self, base: str) -> None:
        """Make twenty changes a second until it is cancelled."""
        self.changes, self.visible_after, self.age_header = 0, [], 0
        start = time.monotonic()
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(base, headers=headers) as session, asyncio.TaskGroup() as group:
            for count in itertools.count():
                await asyncio.sleep(max(0.0, start + count * _INTERVAL - time.monotonic()))
                group.create_task(self._change(next(self._numbers), session))

    async def _change(self, number: int, session: aiohttp.ClientSession) -> None:
        namespace, step = _NAMES[number % NAMESPACES], number % _PROBE_EVERY
        if step == 1:
            await self.client.create(USER_STORAGES, _NAMES[0], _body(_NAMES[0], f"extra-{number}"))
        elif step == 2 and number > _EXTRAS * _PROBE_EVERY:
            await self._delete_extra(number - 1 - _EXTRAS * _PROBE_EVERY)
        else:
            await self._patch(namespace, f"user-{number * 7 % 100}", number, session, probe=step == 0)
        self.changes += 1

    async def _delete_extra(self, number: int) -> None:
        raw = await self.client.get(USER_STORAGES, _NAMES[0], f"extra-{number}")
        await self.client.delete(USER_STORAGES, _NAMES[0], raw["metadata"]["name"], raw["metadata"]["uid"], 0, "Background")

    async def _patch(self, namespace: str, name: str, number: int, session: aiohttp.ClientSession, *, probe: bool) -> None:
        start = time.monotonic()
        patch: Unstructured = {"metadata": {"annotations": {"example.org/changed": str(number)}}}
        changed = await self.client.merge_patch(USER_STORAGES, namespace, name, patch)
        version = int(changed["metadata"]["resourceVersion"])
        while probe:
            async with session.get(f"/v1/namespaces/{namespace}/userstorages/{name}") as response:
                self.age_header = max(self.age_header, int(response.headers["Age"]))
                probe = int((await response.json())["item"]["resourceVersion"]) < version
            await asyncio.sleep(0.01)
        if number % _PROBE_EVERY == 0:
            self.visible_after.append(time.monotonic() - start)


def _body(namespace: str, name: str) -> Unstructured:
    return {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorage",
        "metadata": {"name": name},
        "spec": {"userID": f"{namespace}-{name}"},
    }
