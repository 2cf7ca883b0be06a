"""The work for both contenders: many UserStorages at once, watched until they are Ready, and later until they are deleted."""

import asyncio
import os
import time
from pathlib import Path

from userstorage_operator.api.resources import USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.runtime.metrics import Metrics

NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
_TIMEOUT = 600
_AT_ONCE = 16


class Load:
    """A namespace with many UserStorages."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        os.environ["KUBECONFIG"] = str(kubeconfig)
        self._namespace = namespace

    def create_until_ready(self, count: int) -> float:
        """Create objects; return the seconds from the first creation until the last is Ready."""
        return asyncio.run(self._create_until_ready(count))

    def delete_until_gone(self) -> float:
        """Delete all objects; return the seconds from the first deletion until the last object is gone."""
        return asyncio.run(self._delete_until_gone())

    async def _create_until_ready(self, count: int) -> float:
        client = KubeClient(await login(), Metrics("bench"))
        try:
            await client.create(NAMESPACES, "", {"metadata": {"name": self._namespace}})
            await asyncio.sleep(1)  # the namespace's default service account has to exist
            _, version = await client.list_all(USER_STORAGES, self._namespace)
            limit = asyncio.Semaphore(_AT_ONCE)

            async def create(number: int) -> None:
                body = {
                    "apiVersion": "userstorage.dev/v1",
                    "kind": "UserStorage",
                    "metadata": {"name": f"user-{number}"},
                    "spec": {"userID": f"user-{number}"},
                }
                async with limit:
                    await client.create(USER_STORAGES, self._namespace, body)

            start = time.monotonic()
            async with asyncio.timeout(_TIMEOUT), asyncio.TaskGroup() as group:
                group.create_task(self._watch(client, version, count, gone=False))
                for number in range(count):
                    group.create_task(create(number))
            return time.monotonic() - start
        finally:
            await client.close()

    async def _delete_until_gone(self) -> float:
        client = KubeClient(await login(), Metrics("bench"))
        try:
            objects, version = await client.list_all(USER_STORAGES, self._namespace)
            limit = asyncio.Semaphore(_AT_ONCE)

            async def delete(raw: Unstructured) -> None:
                async with limit:
                    await client.delete(
                        USER_STORAGES, self._namespace, raw["metadata"]["name"], raw["metadata"]["uid"], 0, "Background"
                    )

            start = time.monotonic()
            async with asyncio.timeout(_TIMEOUT), asyncio.TaskGroup() as group:
                group.create_task(self._watch(client, version, len(objects), gone=True))
                for raw in objects:
                    group.create_task(delete(raw))
            return time.monotonic() - start
        finally:
            await client.close()

    async def _watch(self, client: KubeClient, version: str, count: int, *, gone: bool) -> None:
        """Wait until `count` objects are Ready, or gone."""
        finished: set[str] = set()
        while len(finished) < count:
            async for event in client.watch(USER_STORAGES, self._namespace, "", version):
                raw = event["object"]
                version = raw["metadata"]["resourceVersion"]
                done = event["type"] == "DELETED" if gone else raw.get("status", {}).get("phase") == "Ready"
                if done and event["type"] != "BOOKMARK":
                    finished.add(raw["metadata"]["name"])
                if len(finished) >= count:
                    break
