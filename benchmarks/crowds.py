"""What crowds cost: of one tenant, for another tenant (F59 of the fault matrix), and of one class in a crowded namespace (F64).

While one tenant creates thousands of UserStorages on one claim, with one user id or of one class that is full, and deletes the one
that is served, another tenant creates one UserStorage a second; then strangers create large objects under the operator's label.
In an empty namespace, and in one with many pods of others, a class of some hundred users is rolled out, its pods are evicted as by
the drain of a node, and it is suspended and resumed.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from apiserver import USER_STORAGES, ApiServer, Object, connect
from contenders import new_cluster
from load import at_once, create_namespace, create_until_ready, follow, is_ready, phase, user_storages, users
from measuring import command, memory, new_result
from parts import Parts
from replicas import IN_A_NAMESPACE, Replicas, one_leader

from localcluster import Cluster
from localcluster.progress import Console, Report
from userstorage_operator.api import names

_IMAGES = ("example.org/browser:1", "example.org/browser:2")
_NAMESPACES = ("empty", "crowded")
_MERGE = "application/merge-patch+json"
_PATIENCE = 1200.0
_NEIGHBOURS = "neighbours"
_CLAIM: Object = {
    "metadata": {"name": "shared", "labels": {names.LABEL_SHAREABLE: names.SHARE_ONE}},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
_CROWDS: dict[str, Callable[[str], Object]] = {
    "claim": lambda user: {"userID": user, "storage": {"claimName": "shared"}},
    "user id": lambda _: {"userID": "one"},
    "full class": lambda user: {"userID": user, "className": "full"},
}
"""What the UserStorages of a crowd share, and their spec by the name of the user."""
_DELETIONS = 3
"""How often the served one of a crowd is deleted, so that the next takes its place."""
_FOREIGN_BYTES = 250_000


@dataclass
class Lag:
    """The largest delay of an event loop, in seconds."""

    largest: float = 0.0


class Crowds:
    """One run: its parts, and their results."""

    def __init__(self, api: ApiServer, replicas: Replicas, chosen: argparse.Namespace, results: Parts, report: Report) -> None:
        self._api = api
        self._replicas = replicas
        [self._replica] = replicas.running
        self._chosen = chosen
        self._results = results
        self._report = report
        self._created = 0

    async def neighbours(self) -> None:
        """Serve a tenant while another one has a crowd."""
        await create_namespace(self._api, _NEIGHBOURS)
        await self._create_class("full", {"limits": {"maxPerNamespace": 1}})
        await self._neighbour()
        for number, (shared, spec) in enumerate(_CROWDS.items()):
            namespace = f"crowd-{number}"
            await create_namespace(self._api, namespace)
            await self._api.request("POST", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", _CLAIM)
            crowd = [obj | {"spec": spec(obj["metadata"]["name"])} for obj in users(self._chosen.crowd)]
            await self._beside(f"{len(crowd)} on one {shared}", self._crowd(namespace, crowd))
        await self._beside(f"{self._chosen.foreign} foreign objects", self._create_foreign())

    async def _beside(self, part: str, work: Coroutine[Any, Any, None]) -> None:
        """Do the work of a crowd, and meanwhile create a UserStorage a second in another namespace."""
        await self._quiet()
        before, _ = memory(self._replica.pid)
        cpu = self._replicas.cpu(self._replica)
        start = time.monotonic()
        waited: list[float] = []
        async with self._lag() as lag:
            working = asyncio.create_task(work)
            while not working.done():
                waited.append(await self._neighbour())
                await asyncio.sleep(1)
            await working
            used = cpu.used()
        await self._quiet()
        resident, peak = memory(self._replica.pid)
        self._results.add(
            f"another tenant beside {part}",
            seconds=time.monotonic() - start,
            new_objects=len(waited),
            median_seconds_to_ready=median(waited),
            slowest_seconds_to_ready=max(waited),
            cpu_seconds=used["contender"],
            loop_lag=lag.largest,
            memory_before=before,
            memory=resident,
            peak_memory=peak,
        )

    async def _neighbour(self) -> float:
        """Create a UserStorage of the other tenant; return the seconds until it is Ready."""
        self._created += 1
        line = await create_until_ready(self._api, _NEIGHBOURS, users(1, f"bob-{self._created}"), _PATIENCE)
        return line.makespan

    async def _crowd(self, namespace: str, crowd: list[Object]) -> None:
        """Create the crowd, then delete the one of them that is served, and again the next."""
        path = user_storages(namespace)
        await at_once(partial(self._api.request, "POST", path), crowd)
        deleted: set[str] = set()
        async with asyncio.timeout(_PATIENCE):
            async for event in self._states(path):
                name = event["object"]["metadata"].get("name")
                if is_ready(event) and name not in deleted:
                    if len(deleted) == _DELETIONS:
                        return
                    deleted.add(name)
                    await self._api.request("DELETE", f"{path}/{name}", {"propagationPolicy": "Background"})

    async def _states(self, path: str) -> AsyncIterator[Object]:
        """Yield what a collection has as events, and then the events of its watch."""
        objects, version = await self._api.list(path)
        for obj in objects:
            yield {"type": "ADDED", "object": obj}
        async for event in self._api.watch(path, version):
            yield event

    async def _create_foreign(self) -> None:
        """Create objects of strangers under the operator's label, each as large as the API server admits.

        One after the other, no claims, and their pods get no node. Otherwise the API server and kwok, which is the kubelet of all
        nodes and binds claims, use all processors for them: the neighbour waits for both, whatever the operator does.
        """
        meta = {"labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY}, "annotations": {"stranger": "x" * _FOREIGN_BYTES}}
        namespace = "strangers"
        await create_namespace(self._api, namespace)
        specs: dict[str, Object] = {
            f"/api/v1/namespaces/{namespace}/services": {"ports": [{"port": 80}]},
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses": {
                "defaultBackend": {"service": {"name": "other", "port": {"number": 80}}}
            },
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies": {"podSelector": {}},
            f"/api/v1/namespaces/{namespace}/pods": {
                "containers": [{"name": "main", "image": "example.org/other:1"}],
                "schedulingGates": [{"name": "example.org/never"}],
            },
        }
        for path, spec in specs.items():
            objects: list[Object] = [
                {"metadata": {**meta, "name": f"user-storage-{number}"}, "spec": spec}
                for number in range(self._chosen.foreign // len(specs))
            ]
            await at_once(partial(self._api.request, "POST", path), objects, limit=1)

    async def members(self) -> None:
        """Roll out a class, evict its pods, suspend and resume its users, in an empty and in a crowded namespace."""
        for namespace, pods in zip(_NAMESPACES, (0, self._chosen.pods_of_others), strict=True):
            await create_namespace(self._api, namespace)
            await self._create_pods(namespace, pods)
            await self._create_class(namespace, {"browser": {"image": _IMAGES[0]}, "rollout": {"maxUnavailable": "100%"}})
            members = [
                obj | {"spec": {**obj["spec"], "className": namespace}} for obj in users(self._chosen.members, namespace)
            ]
            await create_until_ready(self._api, namespace, members, _PATIENCE, self._report)
            works = {
                "rollout": partial(self._roll_out, namespace, members),
                "drain": partial(self._drain, namespace),
                "suspension": partial(self._scale, namespace, members, 0, "Suspended"),
                "resume": partial(self._scale, namespace, members, 1, "Ready"),
            }
            for title, work in works.items():
                self._results.add(f"{title} in the {namespace} namespace", pods_of_others=pods, **await work())

    async def _create_pods(self, namespace: str, count: int) -> None:
        container = {"name": "main", "image": "example.org/other:1"}
        path = f"/api/v1/namespaces/{namespace}/pods"
        pods: list[Object] = [
            {"metadata": {"name": f"other-{number}", "labels": {"app": "other"}}, "spec": {"containers": [container]}}
            for number in range(count)
        ]

        def running(event: Object) -> bool:
            return phase(event) == "Running"

        if pods:
            await follow(self._api, path, pods, partial(self._api.request, "POST", path), running, _PATIENCE, self._report)

    async def _create_class(self, name: str, spec: Object) -> None:
        kind = {"apiVersion": names.API_VERSION, "kind": names.CLASS_KIND}
        await self._api.request(
            "POST", f"{USER_STORAGES}/userstorageclasses", {**kind, "metadata": {"name": name}, "spec": spec}
        )

    async def _roll_out(self, namespace: str, members: list[Object]) -> dict[str, Any]:
        """Change the image of the class, and return what it cost until all members run it."""
        path, patch = f"{USER_STORAGES}/userstorageclasses/{namespace}", {"spec": {"browser": {"image": _IMAGES[1]}}}
        changed = False

        async def change(_: Object) -> None:
            nonlocal changed
            if not changed:
                changed = True
                await self._api.request("PATCH", path, patch, kind=_MERGE)

        def rolled_out(event: Object) -> bool:
            return is_ready(event) and event["object"]["status"].get("image") == _IMAGES[1]

        return await self._cost(user_storages(namespace), members, change, rolled_out)

    async def _drain(self, namespace: str) -> dict[str, Any]:
        """Evict the pods of all members, and return what it cost until each has a new one that is ready."""
        path = f"/api/v1/namespaces/{namespace}/pods"
        pods, _ = await self._api.list(path, names.CHILD_SELECTOR)
        old = {pod["metadata"]["uid"] for pod in pods}

        async def evict(pod: Object) -> None:
            name = pod["metadata"]["name"]
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
            await self._api.request("POST", f"{path}/{name}/eviction", eviction)

        def replaced(event: Object) -> bool:
            conditions = event["object"].get("status", {}).get("conditions", ())
            ready = any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)
            return event["type"] != "DELETED" and ready and event["object"]["metadata"]["uid"] not in old

        return await self._cost(path, pods, evict, replaced)

    async def _scale(self, namespace: str, members: list[Object], replicas: int, wanted: str) -> dict[str, Any]:
        """Suspend or resume all members, and return what it cost until the phase of each is as wanted."""
        path = user_storages(namespace)

        async def scale(obj: Object) -> None:
            await self._api.request("PATCH", f"{path}/{obj['metadata']['name']}", {"spec": {"replicas": replicas}}, kind=_MERGE)

        return await self._cost(path, members, scale, lambda event: phase(event) == wanted)

    async def _cost(
        self,
        path: str,
        objects: list[Object],
        work: Callable[[Object], Awaitable[None]],
        reached: Callable[[Object], bool],
    ) -> dict[str, Any]:
        """Return what it costs to do the work on all objects until an event of each has reached what is waited for."""
        await self._quiet()
        self._replicas.requests()
        cpu = self._replicas.cpu(self._replica)
        async with self._lag() as lag:
            line = await follow(self._api, path, objects, work, reached, _PATIENCE, self._report)
            used = cpu.used()
        requests = self._replicas.requests()
        return {
            "members": len(objects),
            "seconds": line.makespan,
            "cpu_ms_per_member": used["contender"] / len(objects) * 1000,
            "lists_in_a_namespace": sum(count for name, count in requests.items() if name.endswith(IN_A_NAMESPACE)),
            "loop_lag": lag.largest,
            "requests": dict(requests.most_common()),
        }

    async def _quiet(self) -> None:
        await asyncio.to_thread(self._replicas.cpu(self._replica).wait_until_quiet)

    @asynccontextmanager
    async def _lag(self) -> AsyncIterator[Lag]:
        """Yield the largest delay of the operator's event loop during the `with` block, and up to a minute before."""
        lag = Lag()

        async def look() -> None:
            lag.largest = max(lag.largest, await self._replica.loop_lag())

        async def look_again() -> None:
            while True:
                await look()
                await asyncio.sleep(20)

        looking = asyncio.create_task(look_again())
        try:
            yield lag
            await look()
        finally:
            looking.cancel()


class CrowdResults(Parts):
    """The results, and how much longer the crowded namespace took than the empty one."""

    def text(self) -> str:
        """Return all results as a Markdown table."""
        lines = [super().text()]
        for title in ("rollout", "drain", "suspension", "resume"):
            times = [self.found.get(f"{title} in the {namespace} namespace", {}).get("seconds") for namespace in _NAMESPACES]
            if None not in times:
                lines.append(
                    f"| {title} | seconds in the crowded namespace, to those in the empty one | {times[1] / times[0]:.2f} |"
                )
        return "\n".join(lines)


async def run(cluster: Cluster, chosen: argparse.Namespace, results: Parts, report: Report) -> None:
    """Run the parts. A part that fails ends the run; the results before it are written."""
    async with connect(cluster) as api, one_leader(cluster) as replicas:
        crowds = Crowds(api, replicas, chosen, results, report)
        for part in (crowds.neighbours, crowds.members):
            report(f"part: {part.__doc__}")
            await part()


def main() -> None:
    """Run the parts on a new cluster; print the results."""
    parser = argparse.ArgumentParser(prog="make bench-crowds BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--crowd", type=int, default=2000, help="UserStorages of a crowd")
    parser.add_argument("--foreign", type=int, default=1000, help="foreign objects under the operator's label")
    parser.add_argument("--pods-of-others", type=int, default=3000, help="in the crowded namespace")
    parser.add_argument("--members", type=int, default=300, help="users that are rolled out, evicted and resumed")
    parser.add_argument("--output", type=Path, help="file for the result, without suffix; by default in benchmarks/results")
    chosen = parser.parse_args()
    report = Console()
    results = CrowdResults(chosen.output or new_result("crowds"), command("bench-crowds", sys.argv[1:]), report)
    with new_cluster(report=report) as cluster:
        asyncio.run(run(cluster, chosen, results, report))
    print(results.text())


if __name__ == "__main__":
    main()
