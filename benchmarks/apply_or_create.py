"""The cost of a child for the API server: created, applied server-side, and applied without a change.

The figures of docs/decisions/0002. Run: `make bench-apply`.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from measuring import cpu_seconds

import localcluster
from userstorage_operator import browsers
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.plan.builders import build
from userstorage_operator.plan.diff import without_absent
from userstorage_operator.runtime.metrics import Metrics

COUNT = 300


def services(prefix: str) -> list[Unstructured]:
    """Return the desired Services of `COUNT` users."""
    result = []
    for number in range(COUNT):
        meta = {
            "name": "x",
            "namespace": "default",
            "uid": "00000000-0000-4000-8000-000000000000",
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        storage = UserStorage.parse({"metadata": meta, "spec": {"userID": f"{prefix}{number}"}})
        service = without_absent(build(storage, BUILT_IN, browsers.render(storage, BUILT_IN)).service)
        del service["metadata"]["ownerReferences"]  # the owners do not exist: the garbage collector would delete the children
        result.append(service)
    return result


async def measure(
    name: str, apiserver: int, work: Callable[[Unstructured], Awaitable[object]], objects: list[Unstructured]
) -> None:
    """Do `work` on all objects, eight at a time, and print wall time and CPU of the API server per object."""
    limit = asyncio.Semaphore(8)

    async def one(obj: Unstructured) -> None:
        async with limit:
            await work(obj)

    cpu, start = cpu_seconds(apiserver), time.monotonic()
    await asyncio.gather(*(one(obj) for obj in objects))
    wall = (time.monotonic() - start) / COUNT * 1000
    print(f"| {name} | {wall:.1f} ms | {(cpu_seconds(apiserver) - cpu) / COUNT * 1000:.1f} ms |", flush=True)


async def compare(apiserver: int) -> None:
    """Measure and print all four ways."""
    client = KubeClient(await login(), Metrics("bench"))
    resource = Kind.SERVICE.resource

    async def create(obj: Unstructured) -> None:
        await client.create(resource, "default", obj)

    async def apply(obj: Unstructured) -> None:
        path = resource.path("default", obj["metadata"]["name"])
        query = {"fieldManager": "bench", "force": "true"}
        await client._transport.request(orjson.loads, "PATCH", path, query, obj, "application/apply-patch+yaml")  # noqa: SLF001  # the operator never applies

    created, applied = services("created"), services("applied")
    print("| way | wall time per object | API server CPU per object |\n|---|---|---|")
    await measure("create (POST)", apiserver, create, created)
    await measure("server-side apply, new object", apiserver, apply, applied)
    await measure("server-side apply, nothing to change", apiserver, apply, applied)
    print("| compare with the cache, nothing to change | 0 | 0 |")
    await client.close()


def main() -> None:
    """Run the comparison on a new cluster."""
    with tempfile.TemporaryDirectory(prefix="userstorage-bench-") as directory:
        cluster = localcluster.start("control-plane", Path(directory))
        try:
            os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
            asyncio.run(compare(cluster.processes["kube-apiserver"]))
        finally:
            localcluster.stop(Path(directory))


if __name__ == "__main__":
    main()
