"""StorageReady: failures of a claim, and the progress of its growth."""

import asyncio
from datetime import timedelta

import pytest

from support.live import LIFE, Live
from support.volumes import SHAREABLE, SHARED, bind_claim, create_claim, create_storage_class, patch_claim_status, storage_class
from userstorage_operator.api.errors import Refused
from userstorage_operator.api.names import ANNOTATION_RUN_AS
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan import volume_affinity

pytestmark = [pytest.mark.kwok]

OURS = "user-storage-alice"


async def until_resize(live: Live, resize: str | None) -> None:
    async def is_reported() -> bool:
        status: Unstructured = (await live.get() or {}).get("status", {})
        return bool(status.get("storage", {}).get("resize") == resize)

    await live.until(is_reported)


@pytest.mark.produces("StorageReady/ResizeFailed")
async def test_claim_growth_and_its_failure_are_reported(live: Live, operator: None) -> None:
    async with storage_class(live, allowVolumeExpansion=True) as name:
        await live.create(className=name, storage={"size": "1Gi"})
        await live.until(lambda: live.child(Kind.PVC))
        await bind_claim(live, OURS, "1Gi")
        assert "resize" not in (await live.until_ready())["status"]["storage"]
        await live.change({"spec": {"storage": {"size": "2Gi"}}})
        await until_resize(live, "Requested")
        await patch_claim_status(live, OURS, {"allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"}})
        await until_resize(live, "InProgress")
        await patch_claim_status(live, OURS, {"allocatedResourceStatuses": {"storage": "NodeResizePending"}})
        await until_resize(live, "NodePending")
        error = {"type": "NodeResizeError", "status": "True", "message": "the disk is too full to grow"}
        await patch_claim_status(live, OURS, {"conditions": [error]})
        await until_resize(live, "Failed")
        assert "too full to grow" in await live.until_condition("StorageReady", "True", "ResizeFailed")
        assert await live.condition("Ready") == ("True", "PodReady")
        await patch_claim_status(
            live, OURS, {"conditions": None, "allocatedResourceStatuses": None, "capacity": {"storage": "2Gi"}}
        )
        await until_resize(live, None)
        await live.until_condition("StorageReady", "True", "ClaimBound")


async def test_unsupported_claim_growth_is_reported(live: Live, operator: None) -> None:
    async with storage_class(live, allowVolumeExpansion=False) as name:
        await live.create(className=name, storage={"size": "1Gi"})
        await live.until(lambda: live.child(Kind.PVC))
        await bind_claim(live, OURS, "1Gi")
        await live.until_ready()
        await live.change({"spec": {"storage": {"size": "2Gi"}}})
        assert OURS in await live.until_condition("StorageReady", "False", "ExpansionNotSupported")
        assert await live.condition("Ready") == ("True", "PodReady")


async def until_requested(live: Live, size: str) -> None:
    async def is_requested() -> bool:
        claim = await live.child(Kind.PVC)
        return claim is not None and claim["spec"]["resources"]["requests"]["storage"] == size

    await live.until(is_requested)


async def test_mistyped_size_is_taken_back(live: Live, operator: None) -> None:
    async with storage_class(live, allowVolumeExpansion=True) as name:
        await live.create(className=name, storage={"size": "2Gi"})
        await live.until(lambda: live.child(Kind.PVC))
        await bind_claim(live, OURS, "2Gi")
        pod = (await live.until_ready())["status"]["podUID"]
        await live.change({"spec": {"storage": {"size": "1000Ti"}}})
        await until_requested(live, "1000Ti")
        error = {"type": "ControllerResizeError", "status": "True", "message": "no array has that much"}
        await patch_claim_status(
            live, OURS, {"conditions": [error], "allocatedResourceStatuses": {"storage": "ControllerResizeInfeasible"}}
        )
        await live.until_condition("StorageReady", "True", "ResizeFailed")
        with pytest.raises(Refused, match=r"spec.storage.size must not shrink below what the volume has"):
            await live.change({"spec": {"storage": {"size": "2047Mi"}}})
        await live.change({"spec": {"storage": {"size": "2Gi"}}})
        await until_requested(live, "2147483649")  # Kubernetes accepts no request that equals the capacity
        await until_resize(live, None)
        await live.until_condition("StorageReady", "True", "ClaimBound")
        await live.change({"spec": {"storage": {"size": "3Gi"}}})
        await until_requested(live, "3Gi")
        await live.change({"spec": {"storage": {"size": "2560Mi"}}})
        await until_requested(live, "2560Mi")
        assert (await live.until_ready())["status"]["podUID"] == pod


@pytest.mark.produces("StorageReady/SizeDiffers")
@pytest.mark.parametrize("by_hand", ["3Gi", "999Ti"])
async def test_claim_changed_by_hand_is_left_alone(live: Live, operator: None, by_hand: str) -> None:
    async with storage_class(live, allowVolumeExpansion=True) as name:
        await live.create(className=name, storage={"size": "2Gi"})
        await live.until(lambda: live.child(Kind.PVC))
        await bind_claim(live, OURS, "2Gi")
        await live.until_ready()
        await live.change({"spec": {"storage": {"size": "1000Ti"}}})
        await until_requested(live, "1000Ti")
        await live.change_child(Kind.PVC, {"spec": {"resources": {"requests": {"storage": by_hand}}}})
        assert f"another client made it request {by_hand}" in await live.until_condition("StorageReady", "True", "SizeDiffers")
        await live.change({"spec": {"lifecycle": {"startTimeout": "6m"}}})  # a reconcile
        await live.until_ready()
        await until_requested(live, by_hand)
        await live.change({"spec": {"storage": {"size": "4Gi"}}})
        await until_requested(live, "4Gi")
        await live.until_condition("StorageReady", "True", "ClaimBound")


async def test_size_that_no_volume_has_is_corrected_by_deleting_the_claim(live: Live, operator: None) -> None:
    async with storage_class(live) as name:
        await live.create(className=name, storage={"size": "1000Ti"}, replicas=0)  # kwok would run a pod without a volume
        await live.until(lambda: live.child(Kind.PVC))
        await live.change({"spec": {"storage": {"size": "2Gi"}}})

        async def is_explained() -> bool:
            conditions = ((await live.get()) or {})["status"]["conditions"]
            return any("delete it, and it is created again" in entry["message"] for entry in conditions)

        await live.until(is_explained)
        await live.delete(Kind.PVC.resource, OURS)
        await until_requested(live, "2Gi")
        await live.until_condition("StorageReady", "False", "ClaimPending")


async def test_pods_keep_running_as_the_owner_of_their_files(live: Live, operator: None) -> None:
    name = f"ids-{live.namespace}"
    await live.create_class(name)
    await live.create_class(f"{name}-other", security={"runAsUser": 4000, "runAsGroup": 4000, "fsGroup": 4000})
    try:
        await live.create(className=name)
        before = (await live.until_ready())["status"]["podUID"]
        await live.change_class(name, {"spec": {"security": {"runAsUser": 2000, "fsGroup": 3000}}})
        await live.create("bob", className=name)
        await live.until_ready("bob")
        security = (await live.pod("bob"))["spec"]["securityContext"]
        assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (2000, 1000, 3000)

        async def is_said() -> bool:
            conditions = ((await live.get()) or {})["status"]["conditions"]
            return any("its files belong to 1000:1000:1000" in entry["message"] for entry in conditions)

        await live.until(is_said)
        assert (await live.until_ready())["status"]["podUID"] == before
        await live.change({"spec": {"className": f"{name}-other", "lifecycle": {"terminationGracePeriodSeconds": 7}}})

        async def is_replaced() -> bool:
            pod = await live.child(Kind.POD)
            return pod is not None and pod["metadata"]["uid"] != before

        await live.until(is_replaced)
        assert (await live.pod())["spec"]["securityContext"]["runAsUser"] == 1000
    finally:
        await live.delete_class(name)
        await live.delete_class(f"{name}-other")


async def test_pods_on_a_named_claim_keep_running_as_the_owner_of_their_files(live: Live, operator: None) -> None:
    name = f"ids-{live.namespace}"
    await live.create_class(name)
    await create_claim(live, "homes", mode="ReadWriteMany", labels=SHARED)
    try:
        await live.create(className=name, storage={"claimName": "homes", "subPath": "alice"})
        before = (await live.until_ready())["status"]["podUID"]

        async def is_recorded() -> bool:
            service = await live.child(Kind.SERVICE)
            return service is not None and service["metadata"]["annotations"].get(ANNOTATION_RUN_AS) == "homes 1000:1000:1000"

        await live.until(is_recorded)
        await live.change_class(name, {"spec": {"security": {"runAsUser": 2000, "fsGroup": 3000}}})
        await live.create("bob", className=name, storage={"claimName": "homes", "subPath": "bob"})
        await live.until_ready("bob")
        assert (await live.pod("bob"))["spec"]["securityContext"]["runAsUser"] == 2000
        await live.change({"metadata": {"annotations": {"example.org/touched": "once"}}})

        async def is_said() -> bool:
            conditions = ((await live.get()) or {})["status"]["conditions"]
            return any("its files belong to 1000:1000:1000" in entry["message"] for entry in conditions)

        await live.until(is_said)
        assert (await live.until_ready())["status"]["podUID"] == before
        await live.change({"spec": {"replicas": 0}})  # no pod has the ids any more
        await live.until_condition("Suspended", "True", "Requested")
        await live.change({"spec": {"replicas": 1}})
        await live.until_ready()
        assert (await live.pod())["spec"]["securityContext"]["runAsUser"] == 1000
    finally:
        await live.delete_class(name)


@pytest.mark.produces("StorageReady/ClaimInUse", "Stalled/ClaimInUse")
async def test_claim_serves_one_user_and_next_takes_over(live: Live, operator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_affinity, "RECHECK_INTERVAL", timedelta(days=1))  # the second user is woken, not polled
    await create_claim(live, "photos")
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
        second = await live.child(Kind.POD, "second")  # read before the first object: there are never two pods
        gone = await live.get("first") is None
        assert second is None or gone
        return gone

    await live.until(first_is_gone)
    await live.until_ready("second")
    assert await live.child(Kind.POD, "first") is None


async def test_claim_of_existing_user_is_in_use(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    await live.change_child(Kind.PVC, {"metadata": {"labels": SHAREABLE}})
    await live.create("bob", storage={"claimName": OURS})
    assert "'alice'" in await live.until_condition("StorageReady", "False", "ClaimInUse", "bob")
    assert await live.child(Kind.POD, "bob") is None
    assert await live.condition("Ready") == ("True", "PodReady")


@pytest.mark.produces("StorageReady/WaitForFirstConsumer")
async def test_claim_waiting_for_first_consumer_is_reported(live: Live, operator: None) -> None:
    async with storage_class(live, volumeBindingMode="WaitForFirstConsumer") as name:
        await live.create(className=name, replicas=0, podMetadata={"annotations": {LIFE: "never-ready"}})
        assert "it gets its volume when its first pod is scheduled" in await live.until_condition(
            "StorageReady", "False", "ClaimPending"
        )
        await live.change({"spec": {"replicas": 1}})
        await live.until_condition("StorageReady", "True", "WaitForFirstConsumer")
        await bind_claim(live, OURS, "10Gi")
        await live.until_condition("StorageReady", "True", "ClaimBound")


async def test_missing_storage_class_is_reported_until_created(live: Live, operator: None) -> None:
    name = f"late-{live.namespace}"
    await create_claim(live, "photos", storageClassName=name)
    await live.create(storage={"claimName": "photos"}, podMetadata={"annotations": {LIFE: "never-ready"}})
    message = await live.until_condition("StorageReady", "False", "ClaimPending")
    assert f"StorageClass '{name}' does not exist" in message
    await create_storage_class(live, name, volumeBindingMode="WaitForFirstConsumer")
    await live.until_condition("StorageReady", "True", "WaitForFirstConsumer")
    await live.delete(STORAGE_CLASSES, name)


async def test_no_pod_is_created_on_terminating_claim(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()

    async def volume_is_known() -> bool:
        return "volumeName" in ((await live.get()) or {})["status"]["storage"]

    await live.until(volume_is_known)
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
    # The default class does not wait for consent, and the user is served on an empty volume: that must not look like the old one.
    assert before["metadata"]["uid"] in await live.until_condition("StorageReady", "False", "ClaimReplaced")


async def test_terminating_named_claim_is_reported(live: Live, operator: None) -> None:
    await live.create_object(
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


@pytest.mark.produces("PodUpToDate/ClaimLost")
async def test_lost_volume_is_reported(live: Live, operator: None) -> None:
    async with storage_class(live) as name:
        await live.create(className=name)
        await live.until(lambda: live.child(Kind.PVC))
        await bind_claim(live, OURS, "10Gi")
        await live.until_ready()
        await patch_claim_status(live, OURS, {"phase": "Lost"})
        message = await live.until_condition("StorageReady", "False", "ClaimLost")
        assert OURS in message
        assert "Copy the files" in message
        before = (await live.pod())["metadata"]["uid"]
        await live.change_class(name, {"spec": {"browser": {"image": "docker.io/filebrowser/filebrowser:v2.63.22"}}})
        await live.until_condition("PodUpToDate", "False", "ClaimLost")
        await asyncio.sleep(2)  # several reconciles
        assert (await live.pod())["metadata"]["uid"] == before


async def test_sub_path_of_named_claim_is_mounted_read_only(live: Live, operator: None) -> None:
    await create_claim(live, "photos", mode="ReadWriteMany")
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

    async def is_gone() -> bool:
        return await live.get() is None

    await live.until(is_gone)
    await asyncio.sleep(1)  # the garbage collector would have deleted an owned claim by now
    kept = await live.client.get(Kind.PVC.resource, live.namespace, "photos")
    assert "deletionTimestamp" not in kept["metadata"]
