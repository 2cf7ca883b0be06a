"""A claim is never lost by an act of the operator, and another one is never passed off as it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from component.test_events import Events
from support.faultproxy import Fault, FaultProxy
from support.kubectl import Kubectl
from support.live import LIFE, Live
from support.volumes import bind_claim, create_claim, patch_claim_status, storage_class
from userstorage_operator.api.names import ANNOTATION_RESTARTED_AT
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

OURS = "user-storage-alice"
IMAGE = {"spec": {"browser": {"image": "docker.io/filebrowser/filebrowser:v2.63.22"}}}


@pytest.fixture
async def class_name(live: Live) -> AsyncIterator[str]:
    """A class of the test, which the test can change."""
    name = f"class-{live.namespace}"
    await live.create_class(name)
    yield name
    await live.delete_class(name)


async def uid_of(live: Live, kind: Kind) -> str:
    child = await live.child(kind)
    assert child is not None
    return str(child["metadata"]["uid"])


async def delete_claim(live: Live) -> None:
    """Delete the claim as `kubectl delete pvc` does."""
    await live.delete(Kind.PVC.resource, OURS)


async def create_user(live: Live, **spec: Any) -> Unstructured:
    """Create alice in a class that allows pod labels, and wait until she is Ready and her status knows the volume."""
    created = await live.create(**{"className": live.lab_class} | spec)
    await live.until_ready()

    async def is_known() -> bool:
        return "volumeName" in await storage_status(live)

    await live.until(is_known)
    return created


async def create_user_with_deleted_claim(live: Live, **spec: Any) -> tuple[str, str]:
    """Create alice, delete her claim while her pod runs, and return the UIDs of pod and claim."""
    await create_user(live, **spec)
    uids = await uid_of(live, Kind.POD), await uid_of(live, Kind.PVC)
    await delete_claim(live)
    assert "Copy the files" in await live.until_condition("StorageReady", "False", "ClaimTerminating")
    return uids


async def lose_claim_while_suspended(live: Live, **spec: Any) -> Unstructured:
    """Create alice, suspend her, delete her claim, and return the claim."""
    await create_user(live, **spec)
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "True", "Requested")
    claim = await live.child(Kind.PVC)
    assert claim is not None
    await delete_claim(live)
    return claim


async def storage_status(live: Live) -> Unstructured:
    found = await live.get()
    assert found is not None
    storage: Unstructured = found["status"]["storage"]
    return storage


@pytest.mark.produces("PodUpToDate/ClaimTerminating")
async def test_rollout_does_not_end_the_pod_that_keeps_a_deleted_claim(
    live: Live, api: Kubectl, operator_of_all: None, class_name: str
) -> None:
    created = await create_user(live, className=class_name)
    pod, claim = await uid_of(live, Kind.POD), await uid_of(live, Kind.PVC)
    await delete_claim(live)
    await live.change_class(class_name, IMAGE)
    message = await live.until_condition("PodUpToDate", "False", "ClaimTerminating")
    assert "the class asks for another pod" in message
    await asyncio.sleep(3)  # several retries
    assert (await uid_of(live, Kind.POD), await uid_of(live, Kind.PVC)) == (pod, claim)
    assert await live.condition("Ready") == ("True", "PodReady")
    found = await live.get()
    assert found is not None
    assert found["status"]["phase"] == "Degraded"
    warnings = {reason for kind, reason, _ in await Events(api, created).counts() if kind == "Warning"}
    assert warnings >= {"ClaimTerminating"}


@pytest.mark.parametrize("wish", ["spec", "restart", "hash", "edit", "label"])
async def test_nothing_replaces_the_pod_that_keeps_a_deleted_claim(live: Live, api: Kubectl, operator: None, wish: str) -> None:
    pod, claim = await create_user_with_deleted_claim(live)
    match wish:
        case "spec":
            await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 29}}})
        case "restart":
            await live.change({"metadata": {"annotations": {ANNOTATION_RESTARTED_AT: "2026-01-31T12:00:00Z"}}})
        case "hash":
            await live.change_child(Kind.POD, {"metadata": {"annotations": {"userstorage.dev/pod-hash": None}}})
        case "edit":
            edit = json.dumps({"spec": {"activeDeadlineSeconds": 9999}})  # by kubectl: the test's client has our field manager
            await asyncio.to_thread(api.run, "patch", "pod", OURS, "-n", live.namespace, "--type=merge", "-p", edit)
        case _:
            await live.change_child(Kind.POD, {"metadata": {"labels": {"userId": None}}})

            async def is_repaired() -> bool:
                return bool((await live.pod())["metadata"]["labels"].get("userId") == "alice")

            await live.until(is_repaired)
    if wish != "label":
        await live.until_condition("PodUpToDate", "False", "ClaimTerminating")
    await asyncio.sleep(3)  # several retries
    assert (await uid_of(live, Kind.POD), await uid_of(live, Kind.PVC)) == (pod, claim)


async def test_claim_deletion_that_the_cache_missed_keeps_the_pod(live: Live, proxy: FaultProxy, operator: None) -> None:
    await create_user(live)
    pod, claim = await uid_of(live, Kind.POD), await uid_of(live, Kind.PVC)
    proxy.fail(Fault("GET", "/persistentvolumeclaims[?]", 503))  # lists and watches
    proxy.hang_up()
    await delete_claim(live)
    await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 29}}})
    await live.until_condition("PodUpToDate", "False", "ClaimTerminating")
    assert (await uid_of(live, Kind.POD), await uid_of(live, Kind.PVC)) == (pod, claim)
    proxy.fail()


async def test_lost_volume_that_the_cache_missed_keeps_the_pod(live: Live, proxy: FaultProxy, operator: None) -> None:
    async with storage_class(live) as name:  # without a provisioner: otherwise the claim would be bound again at once
        await live.create(className=name)
        await live.until(lambda: live.child(Kind.PVC))
        await bind_claim(live, OURS, "10Gi")
        await live.until_ready()
        pod = await uid_of(live, Kind.POD)
        proxy.fail(Fault("GET", "/persistentvolumeclaims[?]", 503))  # lists and watches
        proxy.hang_up()
        await patch_claim_status(live, OURS, {"phase": "Lost"})
        await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 29}}})
        await live.until_condition("PodUpToDate", "False", "ClaimLost")
        assert await uid_of(live, Kind.POD) == pod
        proxy.fail()


async def test_failed_pod_still_keeps_a_deleted_claim(live: Live, operator: None) -> None:
    pod, claim = await create_user_with_deleted_claim(live)
    failed = {"status": {"phase": "Failed", "reason": "Evicted", "conditions": None}}
    await live.client.merge_patch(Kind.POD.resource, live.namespace, OURS, failed, "status")
    assert "Evicted" in await live.until_condition("PodUpToDate", "False", "ClaimTerminating")
    assert "being deleted" in await live.until_condition("Ready", "False", "StorageNotReady")
    await asyncio.sleep(3)  # several retries
    assert (await uid_of(live, Kind.POD), await uid_of(live, Kind.PVC)) == (pod, claim)


async def test_suspension_ends_the_pod_and_status_says_what_follows(live: Live, operator: None) -> None:
    slow = {"annotations": {LIFE: "slow-termination"}}
    _, claim = await create_user_with_deleted_claim(live, podMetadata=slow)
    await live.change({"spec": {"replicas": 0}})
    assert "gone too, with its files" in await live.until_condition("Suspended", "False", "Stopping")
    await live.until_condition("StorageReady", "False", "ClaimReplaced")
    assert await uid_of(live, Kind.PVC) != claim


async def test_drain_of_the_node_ends_the_pod_and_the_loss_is_reported(live: Live, api: Kubectl, operator: None) -> None:
    pod, claim = await create_user_with_deleted_claim(live)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": OURS, "namespace": live.namespace}}
    path = f"/api/v1/namespaces/{live.namespace}/pods/{OURS}/eviction"
    await asyncio.to_thread(api.run, "create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    await live.until_condition("StorageReady", "False", "ClaimReplaced")
    assert await uid_of(live, Kind.PVC) != claim
    await live.until_ready()
    assert await uid_of(live, Kind.POD) != pod


async def test_deletion_of_the_user_ends_the_pod(live: Live, operator: None) -> None:
    await create_user_with_deleted_claim(live)
    await live.delete(USER_STORAGES, "alice")

    async def is_gone() -> bool:
        return await live.get() is None and await live.child(Kind.PVC) is None

    await live.until(is_gone)


@pytest.mark.produces("StorageReady/ClaimReplaced")
async def test_new_claim_is_not_passed_off_as_the_lost_one(live: Live, api: Kubectl, operator: None) -> None:
    lost = await lose_claim_while_suspended(live)
    uid, volume = lost["metadata"]["uid"], lost["spec"]["volumeName"]
    await live.until_condition("StorageReady", "False", "ClaimReplaced")
    await live.change({"spec": {"replicas": 1}})
    found = await live.until_ready()
    assert found["status"]["phase"] == "Degraded"
    claim = await live.child(Kind.PVC)
    assert claim is not None
    message = await live.until_condition("StorageReady", "False", "ClaimReplaced")
    for words in (uid, volume, claim["metadata"]["creationTimestamp"], "acceptedClaimLoss"):
        assert words in message
    assert await storage_status(live) == {
        "claimName": OURS,
        "claimPhase": "Bound",
        "claimUID": claim["metadata"]["uid"],
        "volumeName": claim["spec"]["volumeName"],
        "requested": "10Gi",
        "capacity": "10Gi",
        "lostClaim": {"uid": uid, "volumeName": volume},
    }

    async def is_recorded() -> bool:
        return ("Warning", "ClaimReplaced") in {(kind, reason) for kind, reason, _ in await Events(api, found).counts()}

    await live.until(is_recorded)
    await live.change({"spec": {"storage": {"acceptedClaimLoss": uid}}})
    await live.until_condition("StorageReady", "True", "ClaimBound")
    assert (await live.until_ready())["status"]["phase"] == "Ready"
    assert "lostClaim" not in await storage_status(live)
    # Consent is to that loss only.
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "True", "Requested")
    await delete_claim(live)
    assert claim["metadata"]["uid"] in await live.until_condition("StorageReady", "False", "ClaimReplaced")


@pytest.mark.produces("StorageReady/ClaimDeleted", "Stalled/ClaimDeleted")
async def test_no_claim_is_created_without_consent(live: Live, operator_of_all: None, class_name: str) -> None:
    await live.change_class(class_name, {"spec": {"storage": {"onClaimLoss": "Wait"}}})
    lost = await lose_claim_while_suspended(live, className=class_name)
    uid = lost["metadata"]["uid"]
    assert uid in await live.until_condition("StorageReady", "False", "ClaimDeleted")
    assert await live.condition("Stalled") == ("True", "ClaimDeleted")
    await live.change({"spec": {"replicas": 1}})
    assert uid in await live.until_condition("Ready", "False", "StorageNotReady")
    await asyncio.sleep(3)  # several retries
    assert (await live.child(Kind.PVC), await live.child(Kind.POD)) == (None, None)
    assert (await storage_status(live))["lostClaim"] == {"uid": uid, "volumeName": lost["spec"]["volumeName"]}
    await live.change({"spec": {"storage": {"acceptedClaimLoss": uid}}})
    await live.until_ready()
    await live.until_condition("StorageReady", "True", "ClaimBound")


@pytest.mark.produces("Stalled/ClaimReplaced")
@pytest.mark.parametrize("named", [False, True])
async def test_no_pod_is_started_on_a_claim_that_another_client_created_without_consent(
    live: Live, operator_of_all: None, class_name: str, named: bool
) -> None:
    name = "homes" if named else OURS
    spec: dict[str, Any] = {"className": class_name}
    if named:
        await create_claim(live, name)
        spec["storage"] = {"claimName": name}
    await live.change_class(class_name, {"spec": {"storage": {"onClaimLoss": "Wait"}}})
    await create_user(live, **spec)
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "True", "Requested")
    lost = await live.client.get(Kind.PVC.resource, live.namespace, name)
    uid = lost["metadata"]["uid"]
    await live.delete(Kind.PVC.resource, name)
    assert uid in await live.until_condition("StorageReady", "False", "ClaimDeleted")
    # As a backup tool restores it, empty.
    ours = {key: value for key, value in (lost["metadata"].get("annotations") or {}).items() if "userstorage.dev" in key}
    meta = {"labels": lost["metadata"]["labels"], "annotations": ours}
    await live.create_object(Kind.PVC, name, {key: lost["spec"][key] for key in ("accessModes", "resources")}, **meta)
    await live.change({"spec": {"replicas": 1}})
    assert "no pod is started on it" in await live.until_condition("StorageReady", "False", "ClaimReplaced")
    assert uid in await live.until_condition("Ready", "False", "StorageNotReady")
    assert await live.condition("Stalled") == ("True", "ClaimReplaced")
    await asyncio.sleep(3)  # several retries
    assert await live.child(Kind.POD) is None
    await live.change({"spec": {"storage": {"acceptedClaimLoss": uid}}})
    await live.until_ready()
    await live.until_condition("StorageReady", "True", "ClaimBound")


async def test_claim_that_lost_its_labels_is_no_lost_claim(live: Live, operator_of_all: None, class_name: str) -> None:
    await live.change_class(class_name, {"spec": {"storage": {"onClaimLoss": "Wait"}}})
    await create_user(live, className=class_name)
    before = (await storage_status(live))["claimUID"]
    await live.change_child(Kind.PVC, {"metadata": {"labels": None}})

    async def is_repaired() -> bool:
        claim = await live.child(Kind.PVC)
        assert claim is not None
        return bool((claim["metadata"].get("labels") or {}).get("userId") == "alice")

    await live.until(is_repaired)
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})  # one more reconcile
    assert (await live.until_ready())["status"]["storage"]["claimUID"] == before
    assert await live.condition("StorageReady") == ("True", "ClaimBound")


async def test_claim_on_the_old_volume_is_no_lost_claim(live: Live, operator_of_all: None, class_name: str) -> None:
    await live.change_class(class_name, {"spec": {"storage": {"onClaimLoss": "Wait"}}})
    lost = await lose_claim_while_suspended(live, className=class_name)
    await live.until_condition("StorageReady", "False", "ClaimDeleted")
    meta = {key: lost["metadata"][key] for key in ("labels", "annotations")}
    spec = {key: lost["spec"][key] for key in ("accessModes", "resources", "volumeName")}
    await live.create_object(Kind.PVC, OURS, spec, **meta)
    await live.change({"spec": {"replicas": 1}})
    await live.until_ready()
    assert await live.condition("StorageReady") == ("True", "ClaimBound")
    assert "lostClaim" not in await storage_status(live)


async def test_restored_user_without_status_knows_no_lost_claim(live: Live, operator: None) -> None:
    before = (await create_user(live))["metadata"]["uid"]
    await live.delete(USER_STORAGES, "alice")

    await live.until_gone()
    await delete_claim(live)

    async def claim_is_gone() -> bool:
        return await live.child(Kind.PVC) is None

    await live.until(claim_is_gone)
    found = await live.create()
    assert found["metadata"]["uid"] != before
    await live.until_ready()
    assert await live.condition("StorageReady") == ("True", "ClaimBound")


async def test_claim_deleted_with_a_previous_user_storage_is_no_lost_claim(live: Live, operator: None) -> None:
    # kubectl replace --force: the next UserStorage exists before the garbage collector has deleted the claim.
    delete = {"reclaimPolicy": "Delete"}
    await create_user(live, storage=delete)
    claim = await uid_of(live, Kind.PVC)
    await live.change_child(Kind.PVC, {"metadata": {"finalizers": ["example.com/keep"]}})
    await live.delete(USER_STORAGES, "alice")

    await live.until_gone()
    await live.create(storage=delete)
    await live.until_condition("StorageReady", "False", "ClaimTerminating")
    await live.change_child(Kind.PVC, {"metadata": {"finalizers": None}})
    await live.until_ready()
    assert await uid_of(live, Kind.PVC) != claim
    assert await live.condition("StorageReady") == ("True", "ClaimBound")
