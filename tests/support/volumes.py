"""Claims, volumes and foreign pods, as provisioners, resizers and other tenants create and change them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.live import Live
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, Kind
from userstorage_operator.api.unstructured import Unstructured

SHAREABLE = {"userstorage.dev/shareable": "true"}
SHARED = {"userstorage.dev/shareable": "Directories"}


@asynccontextmanager
async def storage_class(live: Live, **fields: Any) -> AsyncIterator[str]:
    """Create a StorageClass without a provisioner and a UserStorageClass that uses it; yield the name of both."""
    name = f"by-hand-{live.namespace}"
    await create_storage_class(live, name, **fields)
    await live.create_class(name, storage={"storageClassName": name})
    try:
        yield name
    finally:
        await live.delete(USER_STORAGE_CLASSES, name)
        await live.delete(STORAGE_CLASSES, name)


async def create_storage_class(live: Live, name: str, **fields: Any) -> None:
    body = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": "by.hand/x"}
    await live.client.create(STORAGE_CLASSES, "", body | fields)


async def create_claim(
    live: Live, name: str, mode: str = "ReadWriteOnce", labels: dict[str, str] = SHAREABLE, **spec: Any
) -> Unstructured:
    """Create a claim with the label that allows UserStorages to use it."""
    defaults = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}}
    return await live.create_object(Kind.PVC, name, defaults | spec, labels=labels)


async def bind_claim(live: Live, name: str, size: str) -> None:
    """Bind a claim to a volume of that size, as a provisioner does."""
    await live.client.merge_patch(Kind.PVC.resource, live.namespace, name, {"spec": {"volumeName": f"pv-{name}"}})
    await patch_claim_status(live, name, {"phase": "Bound", "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]})


async def patch_claim_status(live: Live, name: str, status: Unstructured) -> None:
    """Merge-patch the status of a claim."""
    await live.client.merge_patch(Kind.PVC.resource, live.namespace, name, {"status": status}, "status")


async def create_mounting_pod(live: Live, name: str, claim: str, node: str) -> None:
    """Create a foreign pod on that node that mounts the claim, and wait until it runs."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    spec = {
        "nodeName": node,
        "containers": [{"name": "job", "image": "example.com/job:1", "securityContext": security}],
        "volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": claim}}],
    }
    await live.create_object(Kind.POD, name, spec)

    async def is_running() -> bool:
        pod = await live.client.get(Kind.POD.resource, live.namespace, name)
        return bool(pod["status"]["phase"] == "Running")

    await live.until(is_running)
