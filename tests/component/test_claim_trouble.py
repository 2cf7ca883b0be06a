"""A claim that is deleted, is lost or cannot grow is reported, and the user is served as long as possible."""

import pytest

from support.inprocess import RecordedMetrics
from support.live import HEALED, LIFE, Live
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
HELD = {"metadata": {"finalizers": ["example.org/backup"]}}
RELEASED = {"metadata": {"finalizers": None}}


@pytest.mark.produces("StorageReady/ClaimLost")
async def test_lost_claim_is_reported(live: Live, operator: RecordedMetrics) -> None:
    # A storage class without a provisioner: otherwise the claim would be bound again at once.
    await live.create_class(live.namespace, storage={"storageClassName": "no-such-class"})
    await live.create(className=live.namespace, podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("StorageReady", "False", "ClaimPending")
    lost = {"status": {"phase": "Lost"}}
    await live.client.merge_patch(Kind.PVC.resource, live.namespace, "user-storage-alice", lost, "status")
    assert "user-storage-alice" in await live.until_condition("StorageReady", "False", "ClaimLost")
    await live.delete(USER_STORAGE_CLASSES, live.namespace)


@pytest.mark.produces("StorageReady/ClaimTerminating", "Ready/StorageNotReady")
async def test_no_pod_is_created_on_deleted_claim(live: Live, operator: RecordedMetrics) -> None:
    await live.create()
    await live.until_ready()
    await live.change_child(Kind.PVC, HELD)
    await live.delete(Kind.PVC.resource, "user-storage-alice")
    await live.until_condition("StorageReady", "False", "ClaimTerminating")
    assert await live.condition("Ready") == ("True", "PodReady")  # the pod is kept as long as it runs
    await live.delete(Kind.POD.resource, "user-storage-alice")
    assert "being deleted" in await live.until_condition("Ready", "False", "StorageNotReady")
    assert await live.child(Kind.POD) is None
    await live.change_child(Kind.PVC, RELEASED)
    await live.until_ready()


@pytest.mark.produces("StorageReady/ExpansionNotSupported", "Reconciling/Retrying")
async def test_refused_growth_is_reported_and_does_not_block_pod(live: Live, operator: RecordedMetrics) -> None:
    await live.create(storage={"size": "1Gi"}, podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("StorageReady", "True", "ClaimBound")
    await _expansion(live, allowed=False)
    try:
        await live.change({"spec": {"storage": {"size": "2Gi"}}})
        assert "cannot be expanded" in await live.until_condition("StorageReady", "False", "ExpansionNotSupported")
        assert (await live.condition("Ready"))[1] in {"PodPending", "PodNotReady"}  # of the pod, not of the claim
        assert await live.condition("Reconciling") == ("True", "Retrying")
        assert _size(await live.child(Kind.PVC)) == "1Gi"
        await live.change(HEALED)
        await live.until_condition("Ready", "True", "PodReady")  # the files are served although the claim cannot grow
        assert await live.condition("StorageReady") == ("False", "ExpansionNotSupported")
    finally:
        await _expansion(live, allowed=True)
    await live.change({"spec": {"lifecycle": {"startTimeout": "6m"}}})  # reconcile before the backoff ends
    await live.until_ready()
    assert _size(await live.child(Kind.PVC)) == "2Gi"


async def test_growth_beyond_quota_is_reported(live: Live, operator: RecordedMetrics) -> None:
    await live.create(storage={"size": "1Gi"})
    await live.until_ready()
    await live.set_quota("storage", {"requests.storage": "1Gi"})
    await live.change({"spec": {"storage": {"size": "2Gi"}}})
    assert "exceeded quota" in await live.until_condition("StorageReady", "True", "ResizeFailed")
    found = await live.get()
    assert found is not None
    assert found["status"]["lastError"]["reason"] == "QuotaExceeded"
    assert await live.condition("Ready") == ("True", "PodReady")


async def _expansion(live: Live, *, allowed: bool) -> None:
    await live.client.merge_patch(STORAGE_CLASSES, None, "kwok-volume", {"allowVolumeExpansion": allowed})


def _size(claim: Unstructured | None) -> str:
    assert claim is not None
    size: str = claim["spec"]["resources"]["requests"]["storage"]
    return size
