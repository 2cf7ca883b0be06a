"""The lifecycle of a user, from creation to deletion, on the real API server with scripted pods."""

import asyncio

import pytest

from support.kubectl import Kubectl
from support.live import LIFE, Live
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]


@pytest.mark.produces("Ready/Pending", "Reconciling/Pending")
async def test_object_without_operator_is_pending(live: Live) -> None:
    created = await live.create()
    assert created["status"]["phase"] == "Pending"
    assert await live.condition("Ready") == ("Unknown", "Pending")
    assert await live.condition("Reconciling") == ("True", "Pending")


@pytest.mark.produces(
    "Ready/PodReady",
    "StorageReady/ClaimBound",
    "PodUpToDate/UpToDate",
    "NetworkReady/Synced",
    "Suspended/Running",
    "Reconciling/Done",
    "Stalled/NotStalled",
)
async def test_user_id_alone_creates_all_children(live: Live, operator: None) -> None:
    created = await live.create()
    status = (await live.until_ready())["status"]
    assert status["phase"] == "Ready"
    assert status["url"] == f"http://user-storage-alice.{live.namespace}.svc/"
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD):
        child = await live.child(kind)
        assert child is not None
        assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == [created["metadata"]["uid"]]
    claim = await live.child(Kind.PVC)
    assert claim is not None
    assert "ownerReferences" not in claim["metadata"]
    pod = await live.pod()
    assert pod["metadata"]["labels"]["app"] == "filebrowser"
    assert pod["metadata"]["labels"]["userId"] == "alice"
    assert pod["spec"]["containers"][0]["name"] == "filebrowser"
    assert (status["podUID"], status["storage"]["claimName"]) == (pod["metadata"]["uid"], "user-storage-alice")


async def test_email_address_is_valid_user_id(live: Live, operator: None) -> None:
    await live.create("someone", user_id="a.b+c@x.org")
    status = (await live.until_ready("someone"))["status"]
    pod = await live.pod(status["slug"])
    assert pod["metadata"]["labels"]["userId"] == status["slug"]
    assert pod["metadata"]["annotations"]["userstorage.dev/user-id"] == "a.b+c@x.org"


async def test_observed_generation_follows_spec_change_without_pod_change(live: Live, operator: None) -> None:
    await live.create()
    before = await live.until_ready()
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})
    after = await live.until_ready()
    assert after["status"]["observedGeneration"] == before["status"]["observedGeneration"] + 1
    assert after["status"]["podUID"] == before["status"]["podUID"]


async def test_changed_spec_replaces_pod_on_same_claim(live: Live, operator: None) -> None:
    await live.create()
    before = (await live.until_ready())["status"]
    claim = await live.child(Kind.PVC)
    await live.change({"spec": {"storage": {"readOnly": True}}})
    after = (await live.until_ready())["status"]
    assert after["podUID"] != before["podUID"]
    assert after["appliedHash"] != before["appliedHash"]
    assert (await live.pod())["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] is True
    kept = await live.child(Kind.PVC)
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]


@pytest.mark.produces("PodUpToDate/UpdateDeferred", "PodUpToDate/Suspended", "Suspended/Requested")
async def test_deferred_update_waits_for_suspension(live: Live, operator: None) -> None:
    await live.create(lifecycle={"updateStrategy": "WhenSuspended"})
    before = (await live.until_ready())["status"]["podUID"]
    await live.change({"spec": {"storage": {"readOnly": True}}})
    await live.until_condition("PodUpToDate", "False", "UpdateDeferred")
    assert await live.condition("Ready") == ("True", "PodReady")
    assert (await live.pod())["metadata"]["uid"] == before
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "True", "Requested")
    await live.until(lambda: _is_absent(live, Kind.POD))
    await live.change({"spec": {"replicas": 1}})
    assert (await live.until_ready())["status"]["podUID"] != before
    assert await live.condition("PodUpToDate") == ("True", "UpToDate")


@pytest.mark.produces("Ready/Suspended")
async def test_kubectl_scale_suspends_and_resumes(live: Live, api: Kubectl, operator: None) -> None:
    await live.create()
    await live.until_ready()
    await asyncio.to_thread(api.run, "scale", "us/alice", "--replicas=0", "-n", live.namespace)
    await live.until_condition("Ready", "False", "Suspended")
    await live.until(lambda: _is_absent(live, Kind.POD))
    for kind in (Kind.PVC, Kind.SERVICE, Kind.NETWORK_POLICY):
        assert await live.child(kind) is not None
    await asyncio.to_thread(api.run, "scale", "us/alice", "--replicas=1", "-n", live.namespace)
    await live.until_ready()


@pytest.mark.produces("Ready/PodTerminating", "Ready/PodPending", "PodUpToDate/Recreating", "Suspended/Stopping")
async def test_slowly_terminating_pod_is_waited_for(live: Live, operator: None) -> None:
    await live.create(podMetadata={"annotations": {LIFE: "slow-termination"}})
    before = (await live.until_ready())["status"]["podUID"]
    await live.change({"spec": {"storage": {"readOnly": True}}})
    await live.until_condition("Ready", "False", "PodTerminating")
    assert await live.condition("PodUpToDate") == ("False", "Recreating")
    assert (await live.until_ready())["status"]["podUID"] != before
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "False", "Stopping")
    await live.until_condition("Suspended", "True", "Requested")
    await live.change({"spec": {"replicas": 1, "scheduling": {"nodeSelector": {"disk": "none-has-this"}}}})
    await live.until_condition("Ready", "False", "Unschedulable")  # with PodPending shortly before


@pytest.mark.produces("Ready/Terminating", "Reconciling/Terminating", "PodUpToDate/Terminating")
@pytest.mark.parametrize("policy", ["Retain", "Delete"])
async def test_deletion_removes_pod_before_object(live: Live, operator: None, policy: str) -> None:
    await live.create(storage={"reclaimPolicy": policy}, podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready()
    await live.delete(USER_STORAGES, "alice")
    await live.until_condition("Ready", "False", "Terminating")
    assert (await live.pod())["metadata"]["deletionGracePeriodSeconds"] == 30  # finally the kubelet deletes it with 0
    while (found := await live.get()) is not None:
        assert found["status"]["phase"] == "Terminating"
        await asyncio.sleep(0.1)
    assert await live.child(Kind.POD) is None
    await live.until(lambda: _is_absent(live, Kind.SERVICE))
    await live.until(lambda: _is_absent(live, Kind.NETWORK_POLICY))
    if policy == "Delete":
        await live.until(lambda: _is_absent(live, Kind.PVC))
    else:
        await asyncio.sleep(1)
        assert not await _is_absent(live, Kind.PVC)


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_switch_to_retain_during_deletion_keeps_claim(live: Live, operator: None, propagation: str) -> None:
    await live.until_kind_is_collected()
    await live.create(storage={"reclaimPolicy": "Delete"}, podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready()
    claim = await live.child(Kind.PVC)
    await live.delete_with(propagation)
    if propagation == "Foreground":
        await live.until(lambda: _is_absent(live, Kind.SERVICE))  # the garbage collector deletes the children that it may
    await live.change({"spec": {"storage": {"reclaimPolicy": "Retain"}}})
    await live.until_gone()
    await live.until(lambda: _is_absent(live, Kind.SERVICE))  # shows that the garbage collector has processed the owner
    kept = await live.child(Kind.PVC)
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    assert "ownerReferences" not in kept["metadata"]
    assert "deletionTimestamp" not in kept["metadata"]


@pytest.mark.parametrize(("propagation", "kept"), [("Background", False), ("Foreground", False), ("Orphan", True)])
async def test_claim_of_delete_goes_with_its_user_unless_orphaned(
    live: Live, operator: None, propagation: str, kept: bool
) -> None:
    await live.until_kind_is_collected()
    await live.create(storage={"reclaimPolicy": "Delete"})
    await live.until_ready()
    await live.delete_with(propagation)
    await live.until_gone()
    if kept:
        await asyncio.sleep(2)
        claim = await live.child(Kind.PVC)
        assert claim is not None
        assert "deletionTimestamp" not in claim["metadata"]
        assert "ownerReferences" not in claim["metadata"]
    else:
        await live.until(lambda: _is_absent(live, Kind.PVC))


@pytest.mark.produces("Stalled/DeletionTimedOut")
async def test_overdue_deletion_is_reported_and_not_forced(live: Live, operator: None) -> None:
    await live.create(lifecycle={"deletionTimeout": "1s"}, podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready()
    uid = (await live.pod())["metadata"]["uid"]
    await live.delete(USER_STORAGES, "alice")
    await live.until_condition("Stalled", "True", "DeletionTimedOut")
    pod = await live.pod()
    assert (pod["metadata"]["uid"], pod["metadata"]["deletionGracePeriodSeconds"]) == (uid, 30)
    await live.until_gone()


@pytest.mark.produces("Reconciling/WaitingForFinalizers")
async def test_foreign_finalizer_is_reported_and_waited_for(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    await live.change({"metadata": {"finalizers": ["userstorage.dev/pod-gone", "example.com/backup"]}})
    await live.delete(USER_STORAGES, "alice")
    assert "example.com/backup" in await live.until_condition("Reconciling", "True", "WaitingForFinalizers")
    assert await live.child(Kind.POD) is None
    await live.change({"metadata": {"finalizers": None}})
    await live.until_gone()


async def test_removed_finalizer_is_restored(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    await live.change({"metadata": {"finalizers": None}})

    async def is_restored() -> bool:
        found = await live.get()
        return found is not None and found["metadata"].get("finalizers") == ["userstorage.dev/pod-gone"]

    await live.until(is_restored)


async def test_next_object_of_user_reuses_claim(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    claim = await live.child(Kind.PVC)
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()
    await live.create("restored", user_id="alice")
    await live.until_ready("restored")
    reused = await live.child(Kind.PVC)
    assert claim is not None
    assert reused is not None
    assert reused["metadata"]["uid"] == claim["metadata"]["uid"]


async def test_claim_grows_with_spec(live: Live, operator: None) -> None:
    await live.create(storage={"size": "1Gi"})
    before = (await live.until_ready())["status"]
    await live.change({"spec": {"storage": {"size": "2Gi"}}})

    async def has_grown() -> bool:
        claim: Unstructured | None = await live.child(Kind.PVC)
        return claim is not None and claim["spec"]["resources"]["requests"]["storage"] == "2Gi"

    await live.until(has_grown)
    assert (await live.until_ready())["status"]["podUID"] == before["podUID"]


async def _is_absent(live: Live, kind: Kind) -> bool:
    return await live.child(kind) is None
