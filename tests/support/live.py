"""Reading and changing the live cluster, as users and other controllers do."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from support.kubectl import PATIENCE
from support.manifests import ABSENT
from support.tls import until_connections_closed
from userstorage_operator.api.errors import Conflict, NotFound
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.runtime.metrics import Metrics

LIFE = "localcluster.userstorage.dev/life"
HEALED: Unstructured = {
    "spec": {"podMetadata": {"annotations": {LIFE: None}}, "lifecycle": {"terminationGracePeriodSeconds": 29}}
}
"""Patch of a UserStorage after which a new pod starts and runs: labels and annotations alone change in place."""
ALLOWED = {"allowed": [LIFE, "team", "cost-center", "example.org/"]}
"""`podMetadata` of the classes of tests."""
NODES_ALLOWED = {"allowed": {"nodeSelector": ["kubernetes.io/hostname", "disk"]}}
"""`scheduling` of the class `lab_class`."""
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


def condition_of(raw: Unstructured, condition_type: str) -> tuple[str, str]:
    """Return the status and reason of a condition of an object; ("Unknown", "") if the condition is missing."""
    for entry in raw.get("status", {}).get("conditions", ()):
        if entry["type"] == condition_type:
            return entry["status"], entry["reason"]
    return "Unknown", ""


class _PatientClient(KubeClient):
    """Waits for an answer as long as a test waits: on a busy machine the API server may need longer than an operator allows."""

    async def _request(self, *args: Any, timeout: float = PATIENCE, **options: Any) -> Any:
        return await super()._request(*args, timeout=max(timeout, PATIENCE), **options)


class Live:
    """One namespace of the cluster, read past the operator's caches."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.lab_class = f"lab-{namespace}"
        """The class of UserStorages with a section that the built-in class does not allow. Created by the fixture `live`."""

    async def create(self, name: str = "alice", *, user_id: str | None = None, **spec: Any) -> Unstructured:
        """Create a UserStorage; one with `podMetadata` or `scheduling` gets `lab_class`, unless `className` is given (None: the
        default class).
        """
        if not spec.keys().isdisjoint(("podMetadata", "scheduling")):
            spec = {"className": self.lab_class} | spec
        spec = {field: value for field, value in spec.items() if (field, value) != ("className", None)}
        body = {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": name},
            "spec": {"userID": user_id or name, **spec},
        }
        return await self.client.create(USER_STORAGES, self.namespace, body)

    async def create_class(self, name: str, *, annotations: Unstructured | None = None, **spec: Any) -> None:
        """Create a UserStorageClass that allows the pod metadata of tests; the caller deletes it."""
        body = {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorageClass",
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {"podMetadata": ALLOWED} | spec,
        }
        await self.client.create(USER_STORAGE_CLASSES, "", body)

    async def change_class(self, name: str, patch: Unstructured) -> None:
        """Merge-patch a UserStorageClass."""
        await self.client.merge_patch(USER_STORAGE_CLASSES, None, name, patch)

    async def get_class(self, name: str) -> Unstructured:
        """Return a UserStorageClass. Raises NotFound if it does not exist."""
        return await self.client.get(USER_STORAGE_CLASSES, None, name)

    async def delete_class(self, name: str) -> None:
        """Delete a UserStorageClass."""
        uid = (await self.get_class(name))["metadata"]["uid"]
        await self.client.delete(USER_STORAGE_CLASSES, "", name, uid, 0, "Background")

    async def create_object(self, kind: Kind, name: str, spec: Unstructured, **meta: Any) -> Unstructured:
        """Create an object of a child kind."""
        body = {
            "apiVersion": kind.resource.api_version,
            "kind": kind.resource.kind,
            "metadata": {"name": name, **meta},
            "spec": spec,
        }
        return await self.client.create(kind.resource, self.namespace, body)

    async def until_pods_are_admitted(self) -> None:
        """Wait until the namespace's default service account exists: without it, no pod is admitted."""
        await self.until(lambda: self._get(SERVICE_ACCOUNTS, "default"))

    async def set_quota(self, name: str, hard: dict[str, str]) -> None:
        """Create or change a ResourceQuota, and wait until the quota controller enforces it."""
        spec = {"spec": {"hard": hard}}
        if await self._get(QUOTAS, name) is None:
            body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, **spec}
            await self.client.create(QUOTAS, self.namespace, body)
        else:
            await self.client.merge_patch(QUOTAS, self.namespace, name, spec)

        async def is_enforced() -> bool:
            found = await self.client.get(QUOTAS, self.namespace, name)
            return bool(found.get("status", {}).get("hard") == hard)

        await self.until(is_enforced)

    async def change(self, patch: Unstructured, name: str = "alice") -> Unstructured:
        """Merge-patch a UserStorage."""
        return await self.client.merge_patch(USER_STORAGES, self.namespace, name, patch)

    async def replace(self, resource: Resource, name: str, spec: Any) -> Unstructured:
        """Replace the spec by PUT; unlike a patch, this also removes fields that `spec` lacks. ABSENT removes the whole spec."""
        while True:
            found = await self.client.get(resource, self.namespace, name)
            body = {key: value for key, value in found.items() if key != "spec"} | ({} if spec is ABSENT else {"spec": spec})
            with suppress(Conflict):  # the operator wrote the status in between
                return await self.client.update(resource, self.namespace, body)

    async def change_child(self, kind: Kind, patch: Unstructured, user: str = "alice") -> Unstructured:
        """Merge-patch a user's child of that kind."""
        return await self.client.merge_patch(kind.resource, self.namespace, f"user-storage-{user}", patch)

    async def delete(self, resource: Resource, name: str) -> None:
        """Request the deletion of an object; do not wait for its end."""
        found = await self.client.get(resource, self.namespace, name)
        await self.client.delete(resource, self.namespace, name, found["metadata"]["uid"], 30, "Background")

    async def delete_with(self, propagation: str, name: str = "alice") -> None:
        """Request the deletion of a UserStorage with a propagation policy."""
        found = await self.client.get(USER_STORAGES, self.namespace, name)
        await self.client.delete(USER_STORAGES, self.namespace, name, found["metadata"]["uid"], 30, propagation)

    async def release_all(self) -> None:
        """Remove all finalizers, as no operator does it any more: a namespace that cannot terminate keeps the API server busy."""
        for resource in (USER_STORAGES, Kind.NETWORK_POLICY.resource):
            for raw in (await self.client.list_all(resource, self.namespace))[0]:
                with suppress(NotFound):
                    released = {"metadata": {"finalizers": None}}
                    await self.client.merge_patch(resource, self.namespace, raw["metadata"]["name"], released)

    async def until_kind_is_collected(self) -> None:
        """Wait until the garbage collector knows UserStorages: up to 30 s after their CRD was created, it collects nothing of theirs
        and a test of its behaviour would pass falsely.
        """
        canary = await self.create("gc-canary", className="none")
        owner = {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "name": "gc-canary",
            "uid": canary["metadata"]["uid"],
        }
        await self.create_object(Kind.SERVICE, "gc-canary", {"ports": [{"port": 1}]}, ownerReferences=[owner])
        await self.delete_with("Foreground", "gc-canary")

        async def is_collected() -> bool:
            return await self._get(Kind.SERVICE.resource, "gc-canary") is None and await self.get("gc-canary") is None

        await self.until(is_collected)

    async def get(self, name: str = "alice") -> Unstructured | None:
        """Return a UserStorage, or None if it does not exist."""
        return await self._get(USER_STORAGES, name)

    async def until_gone(self, name: str = "alice") -> None:
        """Wait until a UserStorage does not exist any more."""

        async def is_gone() -> bool:
            return await self.get(name) is None

        await self.until(is_gone)

    async def child(self, kind: Kind, user: str = "alice") -> Unstructured | None:
        """Return a user's child of that kind, or None if it does not exist."""
        return await self._get(kind.resource, f"user-storage-{user}")

    async def pod(self, user: str = "alice") -> Unstructured:
        """Return a user's pod; fails if it does not exist."""
        found = await self.child(Kind.POD, user)
        assert found is not None
        return found

    async def condition(self, condition_type: str, name: str = "alice") -> tuple[str, str]:
        """Return the status and reason of a condition; ("Unknown", "") if the condition is missing."""
        return condition_of(await self.get(name) or {}, condition_type)

    async def until(self, condition: Callable[[], Awaitable[Any]], within: float = PATIENCE) -> Any:
        """Await `condition` until it returns a truthy value, and return that value. Fails with all objects after `within` s.

        The longer the wait, the longer the pauses: on a busy machine, requests would slow down what they wait for.
        """
        started = time.monotonic()
        while not (value := await condition()):
            waited = time.monotonic() - started
            assert waited < within, f"not within {within} s; UserStorages: {await self.all()}"
            await asyncio.sleep(min(max(0.05, waited / 10), 0.25))
        return value

    async def until_ready(self, name: str = "alice", within: float = PATIENCE) -> Unstructured:
        """Wait until a UserStorage is Ready for its current generation, and return it."""

        async def ready_object() -> Unstructured | None:
            found = await self.get(name)
            assert found is not None
            current = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
            settled = condition_of(found, "Reconciling")[0] == "False"
            return found if current and settled and condition_of(found, "Ready") == ("True", "PodReady") else None

        found: Unstructured = await self.until(ready_object, within)
        return found

    async def until_condition(
        self, condition_type: str, status: str, reason: str, name: str = "alice", within: float = PATIENCE
    ) -> str:
        """Wait until a condition has that status and reason, and return its message."""

        async def reported() -> Unstructured | None:
            found = await self.get(name) or {}
            entries = found.get("status", {}).get("conditions", [])
            wanted = (condition_type, status, reason)
            return next((entry for entry in entries if (entry["type"], entry["status"], entry["reason"]) == wanted), None)

        return str((await self.until(reported, within))["message"])

    async def all(self) -> list[Unstructured]:
        """Return all UserStorages."""
        return (await self.client.list_all(USER_STORAGES, self.namespace))[0]

    async def _get(self, resource: Resource, name: str) -> Unstructured | None:
        try:
            return await self.client.get(resource, self.namespace, name)
        except NotFound:
            return None


@contextlib.asynccontextmanager
async def open_live(namespace: str) -> AsyncIterator[Live]:
    """Yield a namespace of the cluster of KUBECONFIG in which pods are admitted, with its `lab_class`."""
    client = _PatientClient(await login(), Metrics("test"))
    live = Live(client, namespace)
    await live.until_pods_are_admitted()
    await live.create_class(live.lab_class, scheduling=NODES_ALLOWED)
    yield live
    await live.release_all()
    await live.delete_class(live.lab_class)
    await client.close()
    await until_connections_closed()


class ClassOfTest:
    """A UserStorageClass that only one test uses."""

    def __init__(self, live: Live, name: str) -> None:
        self._client = live.client
        self.name = name

    async def change(self, **network: Any) -> None:
        """Merge-patch `spec.network`."""
        await self._client.merge_patch(USER_STORAGE_CLASSES, None, self.name, {"spec": {"network": network}})

    async def delete(self) -> None:
        """Delete the class."""
        found = await self._client.get(USER_STORAGE_CLASSES, None, self.name)
        await self._client.delete(USER_STORAGE_CLASSES, "", self.name, found["metadata"]["uid"], 0, "Background")
