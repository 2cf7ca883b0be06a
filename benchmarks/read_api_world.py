"""What the read API is asked about: users in ten namespaces, and the changes that go on meanwhile."""

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
_BEAT = 0.05
"""Seconds between changes: twenty a second."""
_PROBED = 20
"""One in so many changes is followed until it is told."""
_KEPT = 5
"""Further objects that are there at a time; each second the oldest goes and a new one comes."""
_AT_ONCE = 16
_LISTS = re.compile(r'^apiserver_request_total\{[^}]*[,{]resource="(\w+)"[^}]*verb="LIST"[^}]*\} (\S+)', re.MULTILINE)
_NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


def url_mix(base: str) -> list[str]:
    """Seven of ten ask for one object, two for a user's, one for the hundred of a namespace."""
    urls = []
    for number in range(100):
        namespace = _NAMES[number % NAMESPACES]
        urls += [f"{base}/v1/namespaces/{namespace}/userstorages/user-{(number + step) % 100}" for step in range(0, 70, 10)]
        urls += [f"{base}/v1/users/{namespace}-user-{(number + step) % 100}" for step in (3, 50)]
        urls.append(f"{base}/v1/userstorages?namespace={namespace}&limit=100")
    return urls


async def run(command: list[str]) -> str:
    """What a command prints; raises CalledProcessError where it fails."""
    done = await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


async def lists(kubectl: list[str]) -> Counter[str]:
    """LIST requests that the API server has counted, by resource."""
    counted: Counter[str] = Counter()
    for resource, value in _LISTS.findall(await run([*kubectl, "get", "--raw", "/metrics"])):
        counted[resource] += int(float(value))
    return counted


@dataclass
class World:
    """The objects, and what was seen of their changes in the run under way."""

    client: KubeClient
    kubectl: list[str]
    token: str
    changes: int = 0
    told_after: list[float] = field(default_factory=list)
    """Seconds from before a change was sent until it was told."""
    age_header: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    async def make(cls, kubectl: list[str], users: int, report: Report) -> "World":
        """So many users in each namespace, all Ready; and a backend that may read all of them."""
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

        async def create(namespace: str, number: int) -> None:
            async with limit:
                await client.create(USER_STORAGES, namespace, _body(namespace, f"user-{number}"))

        async with asyncio.TaskGroup() as group:
            for namespace, number in itertools.product(_NAMES, range(users)):
                group.create_task(create(namespace, number))
        async with asyncio.timeout(600):
            while waiting := [
                raw for raw in (await client.list_all(USER_STORAGES, None))[0] if raw.get("status", {}).get("phase") != "Ready"
            ]:
                report(f"{len(waiting)} of {users * NAMESPACES} objects not Ready yet")
                await asyncio.sleep(2)
        return cls(client, kubectl, token)

    async def change(self, base: str) -> None:
        """Twenty changes a second until it is cancelled."""
        self.changes, self.told_after, self.age_header = 0, [], 0
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(base, headers=headers) as session, asyncio.TaskGroup() as group:
            for beat in itertools.count():
                await asyncio.sleep(max(0.0, began + beat * _BEAT - time.monotonic()))
                group.create_task(self._change(next(self._numbers), session))

    async def _change(self, number: int, session: aiohttp.ClientSession) -> None:
        namespace, place = _NAMES[number % NAMESPACES], number % _PROBED
        if place == 1:
            await self.client.create(USER_STORAGES, _NAMES[0], _body(_NAMES[0], f"extra-{number}"))
        elif place == 2 and number > _KEPT * _PROBED:
            await self._delete_extra(number - 1 - _KEPT * _PROBED)
        else:
            await self._patch(namespace, f"user-{number * 7 % 100}", number, session, probe=place == 0)
        self.changes += 1

    async def _delete_extra(self, number: int) -> None:
        raw = await self.client.get(USER_STORAGES, _NAMES[0], f"extra-{number}")
        await self.client.delete(USER_STORAGES, _NAMES[0], raw["metadata"]["name"], raw["metadata"]["uid"], 0, "Background")

    async def _patch(self, namespace: str, name: str, number: int, session: aiohttp.ClientSession, *, probe: bool) -> None:
        began = time.monotonic()
        patch: Unstructured = {"metadata": {"annotations": {"example.org/changed": str(number)}}}
        changed = await self.client.merge_patch(USER_STORAGES, namespace, name, patch)
        wanted = int(changed["metadata"]["resourceVersion"])
        while probe:
            async with session.get(f"/v1/namespaces/{namespace}/userstorages/{name}") as response:
                self.age_header = max(self.age_header, int(response.headers["Age"]))
                probe = int((await response.json())["item"]["resourceVersion"]) < wanted
            await asyncio.sleep(0.01)
        if number % _PROBED == 0:
            self.told_after.append(time.monotonic() - began)


def _body(namespace: str, name: str) -> Unstructured:
    return {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorage",
        "metadata": {"name": name},
        "spec": {"userID": f"{namespace}-{name}"},
    }
