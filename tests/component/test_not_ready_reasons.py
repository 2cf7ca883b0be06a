"""The status reports why a user is not ready, for pod lifecycles that kwok simulates."""

import pytest

from support.live import HEALED, LIFE, Live
from userstorage_operator.api.resources import Kind

pytestmark = [pytest.mark.kwok]


@pytest.mark.parametrize(
    ("life", "reason", "words"),
    [
        pytest.param(
            "image-pull-backoff",
            "ImagePullBackOff",
            "container filebrowser",
            marks=pytest.mark.produces("Ready/ImagePullBackOff"),
        ),
        pytest.param("crash-loop", "CrashLoopBackOff", "last exit code", marks=pytest.mark.produces("Ready/CrashLoopBackOff")),
        pytest.param("oom-killed", "OOMKilled", "memory limit", marks=pytest.mark.produces("Ready/OOMKilled")),
        pytest.param(
            "never-ready",
            "PodNotReady",
            "not ready",
            marks=pytest.mark.produces("Ready/PodNotReady", "Reconciling/Progressing"),
        ),
    ],
)
async def test_failing_start_is_reported(live: Live, operator: None, life: str, reason: str, words: str) -> None:
    await live.create(podMetadata={"annotations": {LIFE: life}})
    assert words in await live.until_condition("Ready", "False", reason)
    assert await live.condition("Reconciling") == ("True", "Progressing")
    await live.change(HEALED)
    await live.until_ready()


async def test_pod_is_ready_despite_slow_node_clock(live: Live, operator: None) -> None:
    await live.create(podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("Ready", "False", "PodNotReady")
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}}
    await live.client.merge_patch(Kind.POD.resource, live.namespace, "user-storage-alice", ready, "status")
    assert (await live.until_ready())["status"]["startupSeconds"] == 0


@pytest.mark.produces("Ready/StartTimeout", "Stalled/StartTimeout")
async def test_start_timeout_is_reported(live: Live, operator: None) -> None:
    await live.create(lifecycle={"startTimeout": "3s"}, podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("Ready", "False", "StartTimeout")
    assert await live.condition("Stalled") == ("True", "StartTimeout")
    found = await live.get()
    assert found is not None
    assert found["status"]["phase"] == "Failed"


@pytest.mark.produces("Ready/Unschedulable")
async def test_unschedulable_pod_is_reported(live: Live, operator: None) -> None:
    await live.create(scheduling={"nodeSelector": {"disk": "none-has-this"}})
    assert "node" in await live.until_condition("Ready", "False", "Unschedulable")


@pytest.mark.produces("Ready/QuotaExceeded")
async def test_exceeded_quota_is_reported(live: Live, operator: None) -> None:
    await live.set_quota("none", {"pods": "0"})
    await live.create()
    assert "exceeded quota: none" in await live.until_condition("Ready", "False", "QuotaExceeded")
    found = await live.get()
    assert found is not None
    assert found["status"]["lastError"]["reason"] == "QuotaExceeded"
    await live.set_quota("none", {"pods": "5"})
    await live.until_ready()
    found = await live.get()
    assert found is not None
    assert "lastError" not in found["status"]


@pytest.mark.produces("StorageReady/ClaimPending")
async def test_pending_claim_is_reported(live: Live, operator: None) -> None:
    claim = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "no-such-class",
    }
    await live.create_object(Kind.PVC, "photos", claim, labels={"userstorage.dev/shareable": "true"})
    # A ready pod would prove that the claim is bound.
    await live.create(storage={"claimName": "photos"}, podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("StorageReady", "False", "ClaimPending")


@pytest.mark.produces("StorageReady/ClaimNotFound", "StorageReady/ClaimNotAllowed", "Stalled/ClaimNotAllowed")
async def test_named_claim_must_be_shareable(live: Live, operator: None) -> None:
    await live.create(storage={"claimName": "photos"})
    assert "spec.storage.claimName" in await live.until_condition("StorageReady", "False", "ClaimNotFound")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    created = await live.create_object(Kind.PVC, "photos", claim)
    await live.until_condition("StorageReady", "False", "ClaimNotAllowed")
    assert await live.child(Kind.POD) is None
    labels = {"metadata": {"labels": {"userstorage.dev/shareable": "true"}}}
    await live.client.merge_patch(Kind.PVC.resource, live.namespace, "photos", labels)
    await live.until_ready()
    [files, *_] = (await live.pod())["spec"]["volumes"]
    assert files["persistentVolumeClaim"]["claimName"] == "photos"
    untouched = await live.client.get(Kind.PVC.resource, live.namespace, "photos")
    assert "userstorage.dev/user-id" not in untouched["metadata"].get("annotations", {})
    assert untouched["metadata"]["uid"] == created["metadata"]["uid"]
