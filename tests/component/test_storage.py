"""StorageReady: what can be wrong with a claim, and what is shown of its growth."""

import asyncio

import pytest

from support.live import LIFE, Live
from support.volumes import SHAREABLE, bind, make_claim, make_storage_class, storage_class, tell
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

OURS = "user-storage-alice"


async def until_resize(live: Live, resize: str | None) -> None:
    async def told() -> bool:
        status: Unstructured = (await live.get() or {}).get("status", {})
        return bool(status.get("storage", {}).get("resize") == resize)

    await live.until(told)


@pytest.mark.produces("StorageReady/ResizeFailed")
async def test_growth_is_shown_step_by_step_and_a_failure_in_words(live: Live, operator: None) -> None:
    async with storage_class(live, allowVolumeExpansion=True) as name:
        await live.create(className=name, storage={"size": "1Gi"})
        await live.until(lambda: live.child(Kind.PVC))
        await bind(live, OURS, "1Gi")
        assert "resize" not in (await live.until_ready())["status"]["storage"]
        await live.change({"spec": {"storage": {"size": "2Gi"}}})
        await until_resize(live, "Requested")
        await tell(live, OURS, {"allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"}})
        await until_resize(live, "InProgress")
        await tell(live, OURS, {"allocatedResourceStatuses": {"storage": "NodeResizePending"}})
        await until_resize(live, "NodePending")
        error = {"type": "NodeResizeError", "status": "True", "message": "the disk is too full to grow"}
        await tell(live, OURS, {"conditions": [error]})
        await until_resize(live, "Failed")
        assert "too full to grow" in await live.until_condition("StorageReady", "True", "ResizeFailed")
        assert await live.condition("Ready") == ("True", "PodReady")
        await tell(live, OURS, {"conditions": None, "allocatedResourceStatuses": None, "capacity": {"storage": "2Gi"}})
        await until_resize(live, None)
        await live.until_condition("StorageReady", "True", "ClaimBound")


async def test_growth_that_the_storage_class_does_not_allow(live: Live, operator: None) -> None:
    async with storage_class(live, allowVolumeExpansion=False) as name:
        await live.create(className=name, storage={"size": "1Gi"})
        await live.until(lambda: live.child(Kind.PVC))
        await bind(live, OURS, "1Gi")
        await live.until_ready()
        await live.change({"spec": {"storage": {"size": "2Gi"}}})
        assert OURS in await live.until_condition("StorageReady", "False", "ExpansionNotSupported")
        assert await live.condition("Ready") == ("True", "PodReady")


@pytest.mark.produces("StorageReady/ClaimInUse", "Stalled/ClaimInUse")
async def test_a_claim_serves_one_and_the_next_moves_in_when_the_first_is_gone(live: Live, operator: None) -> None:
    await make_claim(live, "photos")
    storage = {"claimName": "photos", "subPath": "${slug}"}
    await live.create("first", storage=storage, podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready("first")
    await live.create("second", storage=storage)
    message = await live.until_condition("StorageReady", "False", "ClaimInUse", "second")
    assert "spec.storage.claimName: claim 'photos' is in use by UserStorage 'first'" in message
    assert await live.condition("Stalled", "second") == ("True", "ClaimInUse")
    assert await live.condition("Ready", "second") == ("False", "StorageNotReady")
    await live.delete(USER_STORAGES, "first")

    async def first_is_gone() -> bool:
        second = await live.child(Kind.POD, "second")  # read before the object of the first: no two at any time
        gone = await live.get("first") is None
        assert second is None or gone
        return gone

    await live.until(first_is_gone)
    await live.until_ready("second", within=12)  # less than what a poll would take, which is 15
    assert await live.child(Kind.POD, "first") is None


async def test_the_claim_of_a_live_user_is_in_use_by_that_user(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    await live.change_child(Kind.PVC, {"metadata": {"labels": SHAREABLE}})
    await live.create("bob", storage={"claimName": OURS})
    assert "'alice'" in await live.until_condition("StorageReady", "False", "ClaimInUse", "bob")
    assert await live.child(Kind.POD, "bob") is None
    assert await live.condition("Ready") == ("True", "PodReady")


@pytest.mark.produces("StorageReady/WaitForFirstConsumer")
async def test_a_claim_that_waits_for_its_first_pod(live: Live, operator: None) -> None:
    async with storage_class(live, volumeBindingMode="WaitForFirstConsumer") as name:
        await live.create(className=name, replicas=0, podMetadata={"annotations": {LIFE: "never-ready"}})
        assert "it gets its volume when its first pod is scheduled" in await live.until_condition(
            "StorageReady", "False", "ClaimPending"
        )
        await live.change({"spec": {"replicas": 1}})
        await live.until_condition("StorageReady", "True", "WaitForFirstConsumer")
        await bind(live, OURS, "10Gi")
        await live.until_condition("StorageReady", "True", "ClaimBound")


async def test_a_storage_class_that_is_not_there_is_named_and_noticed_when_it_comes(live: Live, operator: None) -> None:
    name = f"late-{live.namespace}"
    await make_claim(live, "photos", storageClassName=name)
    await live.create(storage={"claimName": "photos"}, podMetadata={"annotations": {LIFE: "never-ready"}})
    message = await live.until_condition("StorageReady", "False", "ClaimPending")
    assert f"StorageClass '{name}' does not exist" in message
    await make_storage_class(live, name, volumeBindingMode="WaitForFirstConsumer")
    await live.until_condition("StorageReady", "True", "WaitForFirstConsumer")
    await live.delete(STORAGE_CLASSES, name)


async def test_no_pod_is_started_on_a_claim_that_is_going(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    before = await live.change_child(Kind.PVC, {"metadata": {"finalizers": ["example.com/keep"]}})
    await live.delete(Kind.PVC.resource, OURS)
    await live.until_condition("StorageReady", "False", "ClaimTerminating")
    assert await live.condition("Ready") == ("True", "PodReady")
    await live.delete(Kind.POD.resource, OURS)
    await live.until_condition("Ready", "False", "StorageNotReady")
    assert await live.child(Kind.POD) is None
    await live.change_child(Kind.PVC, {"metadata": {"finalizers": None}})
    await live.until_ready()
    now = await live.child(Kind.PVC)
    assert now is not None
    assert now["metadata"]["uid"] != before["metadata"]["uid"]


async def test_a_claim_of_others_that_is_going(live: Live, operator: None) -> None:
    await live.make(
        Kind.PVC,
        "photos",
        {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        labels=SHAREABLE,
        finalizers=["example.com/keep"],
    )
    await live.delete(Kind.PVC.resource, "photos")
    await live.create(storage={"claimName": "photos"})
    assert "'photos'" in await live.until_condition("StorageReady", "False", "ClaimTerminating")
    assert await live.child(Kind.POD) is None
    await live.client.merge_patch(Kind.PVC.resource, live.namespace, "photos", {"metadata": {"finalizers": None}})
    await live.until_condition("StorageReady", "False", "ClaimNotFound")


async def test_a_volume_that_is_lost(live: Live, operator: None) -> None:
    async with storage_class(live) as name:
        await live.create(className=name)
        await live.until(lambda: live.child(Kind.PVC))
        await bind(live, OURS, "10Gi")
        await live.until_ready()
        await tell(live, OURS, {"phase": "Lost"})
        assert OURS in await live.until_condition("StorageReady", "False", "ClaimLost")


async def test_a_directory_of_a_claim_to_be_read_only(live: Live, operator: None) -> None:
    await make_claim(live, "photos", mode="ReadWriteMany")
    await live.create(
        user_id="Alice@example.com", storage={"claimName": "photos", "subPath": "users/${slug}/v1", "readOnly": True}
    )
    slug = (await live.until_ready())["status"]["slug"]
    spec = (await live.pod(slug))["spec"]
    [mounted] = [entry for entry in spec["containers"][0]["volumeMounts"] if entry["name"] == spec["volumes"][0]["name"]]
    assert mounted["subPath"] == f"users/{slug}/v1"
    assert mounted["readOnly"] is True
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": "photos", "readOnly": True}
    await live.delete(USER_STORAGES, "alice")

    async def gone() -> bool:
        return await live.get() is None

    await live.until(gone)
    await asyncio.sleep(1)  # what an owner reference would do by then
    kept = await live.client.get(Kind.PVC.resource, live.namespace, "photos")
    assert "deletionTimestamp" not in kept["metadata"]
