"""A UserStorage can be deleted in any state, and reports what its deletion waits for."""

import asyncio
import json
from collections import Counter
from functools import partial
from typing import Any

import pytest

from component.test_interrupted import WRITES_TO_READY, Killed, is_gone, is_ready, reconcile_until
from support.inprocess import RecordedMetrics, serving
from support.kubectl import Kubectl
from support.live import LIFE, Live
from userstorage_operator.api.errors import OperatorError
from userstorage_operator.api.names import ANNOTATION_PAUSED
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.config import Config
from userstorage_operator.kube.client import KubeClient

pytestmark = [pytest.mark.kwok]

FOREIGN = "example.com/backup"
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")


@pytest.mark.parametrize("writes", range(1, WRITES_TO_READY + 1))
async def test_deletion_after_any_write_of_creation_leaves_no_pod(live: Live, writes: int) -> None:
    await live.create()
    with pytest.raises(Killed):
        await reconcile_until(live, lambda: is_ready(live), writes, after=True)
    await live.delete(USER_STORAGES, "alice")
    await reconcile_until(live, lambda: is_gone(live))
    assert await live.child(Kind.POD) is None


@pytest.mark.parametrize("kind", [None, Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE, Kind.POD])
async def test_deletion_during_creation_leaves_no_pod(live: Live, operator: None, kind: Kind | None) -> None:
    await live.create()
    if kind is not None:
        await live.until(lambda: live.child(kind))
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()
    assert await live.child(Kind.POD) is None
    await asyncio.sleep(1)  # a write that was in flight would have arrived by now
    assert await live.child(Kind.POD) is None


async def test_foreign_pod_finalizer_is_reported_and_pod_not_forced(live: Live, operator: None) -> None:
    await live.create(podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready()
    pod = await live.change_child(Kind.POD, {"metadata": {"finalizers": [FOREIGN]}})
    await live.delete(USER_STORAGES, "alice")
    assert FOREIGN in await live.until_condition("Reconciling", "True", "Terminating")
    await live.change({"spec": {"lifecycle": {"deletionTimeout": "3s"}}})
    assert FOREIGN in await live.until_condition("Stalled", "True", "DeletionTimedOut")
    assert await live.condition("Reconciling") == ("False", "Done")
    held = await live.pod()
    assert held["metadata"]["uid"] == pod["metadata"]["uid"]
    assert held["metadata"]["deletionGracePeriodSeconds"] == 30
    await live.change_child(Kind.POD, {"metadata": {"finalizers": None}})
    await live.until_gone()
    assert await live.child(Kind.POD) is None


@pytest.mark.produces("Reconciling/WaitingForGarbageCollection")
async def test_slow_garbage_collection_is_reported(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    pod = await live.pod()
    owner = {"apiVersion": "v1", "kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    meta = {"name": "owned", "finalizers": [FOREIGN], "ownerReferences": [owner | {"blockOwnerDeletion": True}]}
    await live.client.create(CONFIG_MAPS, live.namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
    await live.delete(USER_STORAGES, "alice")
    assert pod["spec"]["nodeName"] in await live.until_condition("Reconciling", "True", "Terminating")
    # As the kubelet does once the containers have terminated.
    await live.client.delete(Kind.POD.resource, live.namespace, owner["name"], owner["uid"], 0, "Foreground")
    message = await live.until_condition("Reconciling", "True", "WaitingForGarbageCollection")
    assert "it waits only for the garbage collector" in message
    held = await live.get()
    assert held is not None
    assert held["status"]["phase"] == "Terminating"
    await live.client.merge_patch(CONFIG_MAPS, live.namespace, "owned", {"metadata": {"finalizers": None}})
    await live.until_gone()
    assert await live.child(Kind.POD) is None


@pytest.mark.produces("Ready/PodTerminating", "Stalled/DeletionTimedOut")
async def test_stuck_pod_of_existing_user_is_reported(live: Live, operator: None) -> None:
    await live.create(lifecycle={"deletionTimeout": "3s"})
    await live.until_ready()
    pod = await live.change_child(Kind.POD, {"metadata": {"finalizers": [FOREIGN]}})
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    await live.client.delete(Kind.POD.resource, live.namespace, name, uid, 1, "Background")  # as for a pod on a lost node
    message = await live.until_condition("Stalled", "True", "DeletionTimedOut")
    assert pod["spec"]["nodeName"] in message
    assert FOREIGN in message
    assert await live.condition("Ready") == ("False", "PodTerminating")
    assert (await live.pod())["metadata"]["uid"] == uid
    await live.change_child(Kind.POD, {"metadata": {"finalizers": None}})
    assert (await live.until_ready())["status"]["podUID"] != uid


async def test_foreign_object_finalizer_is_reported_without_retries(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    await live.change({"metadata": {"finalizers": [FOREIGN, "userstorage.dev/pod-gone"]}})
    await live.delete(USER_STORAGES, "alice")
    assert FOREIGN in await live.until_condition("Reconciling", "True", "WaitingForFinalizers")
    assert await live.child(Kind.POD) is None
    before = await live.get()
    await asyncio.sleep(2)
    assert await live.get() == before  # no status write while waiting
    await live.change({"metadata": {"finalizers": None}})
    await live.until_gone()


async def test_deletion_completes_after_class_was_deleted(live: Live, operator: None) -> None:
    name = f"class-{live.namespace}"
    await live.create_class(name)
    await live.create(className=name)
    await live.until_ready()
    found = await live.client.get(USER_STORAGE_CLASSES, None, name)
    await live.client.delete(USER_STORAGE_CLASSES, "", name, found["metadata"]["uid"], 0, "Background")
    await live.until_condition("Stalled", "True", "ClassNotFound")
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()
    assert await live.child(Kind.POD) is None


async def test_deletion_completes_if_class_never_existed(live: Live, operator: None) -> None:
    await live.create(className="no-such-class")
    await live.until_condition("Ready", "False", "ClassNotFound")
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()


@pytest.mark.parametrize("wait", [False, True], ids=["while its pod terminates", "stopped"])
async def test_deletion_of_suspended_storage_completes(live: Live, operator: None, wait: bool) -> None:
    await live.create(podMetadata={"annotations": {LIFE: "slow-termination"}})
    await live.until_ready()
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", *(("True", "Requested") if wait else ("False", "Stopping")))
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()
    assert await live.child(Kind.POD) is None


@pytest.mark.parametrize("life", ["image-pull-backoff", "crash-loop"])
async def test_deletion_during_failing_start_completes(live: Live, operator: None, life: str) -> None:
    await live.create(podMetadata={"annotations": {LIFE: life}})
    await live.until(lambda: _not_ready(live))
    await live.delete(USER_STORAGES, "alice")
    await live.until_gone()
    assert await live.child(Kind.POD) is None


@pytest.mark.parametrize("held", [False, True], ids=["unchanged", "with our finalizer set by its tenant"])
async def test_deleting_conflicting_object_keeps_owner_of_user_id(live: Live, operator: None, held: bool) -> None:
    await live.create("winner", user_id="alice")
    before = await live.until_ready("winner")
    await live.create("loser", user_id="alice")
    await live.until_condition("Stalled", "True", "UserIDConflict", "loser")
    if held:
        await live.change({"metadata": {"finalizers": ["userstorage.dev/pod-gone"]}}, "loser")
    await live.delete(USER_STORAGES, "loser")
    await live.until_gone("loser")
    await asyncio.sleep(1)
    after = await live.get("winner")
    assert after is not None
    assert (after["spec"], after["status"]["conditions"]) == (before["spec"], before["status"]["conditions"])
    pod = await live.pod()
    assert pod["metadata"]["uid"] == before["status"]["podUID"]
    assert "deletionTimestamp" not in pod["metadata"]


async def test_namespace_with_twenty_users_is_deleted_during_creation(
    live: Live, api: Kubectl, operator: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    create = KubeClient.create

    async def counting(self: KubeClient, *args: Any) -> Unstructured:
        try:
            return await create(self, *args)
        except OperatorError as error:
            if error.reason == "NamespaceTerminating":
                refused.append(error.message.split(" is forbidden")[0])
            raise

    monkeypatch.setattr(KubeClient, "create", counting)
    await asyncio.gather(*(live.create(f"early-{number}") for number in range(10)))
    for number in range(10):
        await live.until_ready(f"early-{number}")
    await asyncio.gather(*(live.create(f"late-{number}") for number in range(10)))
    await asyncio.to_thread(api.run, "delete", "namespace", live.namespace, "--wait=false")

    async def is_deleted() -> bool:
        found = await asyncio.to_thread(api.run, "get", "namespace", live.namespace, "--ignore-not-found", "-o", "json")
        return not found.stdout or json.loads(found.stdout)["status"]["phase"] != "Terminating"

    await live.until(is_deleted)
    # A creation is tried at first, when a child starts and ends terminating, and when the object goes; not repeatedly.
    children = Counter(message for message in refused if not message.startswith("events"))
    assert children.total() <= 20 * (2 * len(Kind) + 2), children


async def _not_ready(live: Live) -> bool:
    status, reason = await live.condition("Ready")
    return status == "False" and reason in ("ImagePullBackOff", "CrashLoopBackOff")


class Shield:
    """Watches that a user's NetworkPolicy exists as long as a pod does."""

    def __init__(self, live: Live, user: str = "alice") -> None:
        self._live = live
        self._user = user
        self.terminating_with_pod = 0
        """Samples of a policy that is being deleted while there is a pod."""

    async def is_pod_gone(self) -> bool:
        """Take a sample; return whether there is no pod. Fails if there is one without a policy."""
        # The policy first: a pod that is there after a policy was missing was there before, as no pod is created meanwhile.
        policy = await self._live.child(Kind.NETWORK_POLICY, self._user)
        pod = await self._live.child(Kind.POD, self._user)
        if pod is None:
            return True
        assert policy is not None, "the pod has no NetworkPolicy"
        self.terminating_with_pod += "deletionTimestamp" in policy["metadata"]
        return False


SLOW = {"annotations": {LIFE: "slow-termination"}}


@pytest.mark.parametrize("users", [1, 12])
@pytest.mark.parametrize("propagation", ["Foreground", "Background"])
async def test_network_policy_outlives_pod_in_every_propagation(
    live: Live, operator: None, propagation: str, users: int
) -> None:
    await live.until_kind_is_collected()
    names = [f"user{number}" for number in range(users)]
    await asyncio.gather(*(live.create(name, podMetadata=SLOW) for name in names))
    for name in names:
        await live.until_ready(name)
    shields = [Shield(live, name) for name in names]
    await asyncio.gather(*(live.delete_with(propagation, name) for name in names))
    await asyncio.gather(*(live.until(shield.is_pod_gone) for shield in shields))
    if propagation == "Foreground":
        assert all(shield.terminating_with_pod for shield in shields)  # the garbage collector did delete the policies
    for name in names:
        await live.until_gone(name)
        await live.until(partial(is_absent, live, Kind.NETWORK_POLICY, name))
        await live.until(partial(is_absent, live, Kind.SERVICE, name))


async def is_absent(live: Live, kind: Kind, user: str = "alice") -> bool:
    return await live.child(kind, user) is None


async def test_foreground_deletion_while_the_operator_is_down_keeps_policy_and_claim(live: Live) -> None:
    config = Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)
    await live.until_kind_is_collected()
    with serving(config):
        await live.create(storage={"reclaimPolicy": "Delete"}, podMetadata=SLOW)
        await live.until_ready()
    claim = await live.child(Kind.PVC)
    assert claim is not None
    await live.delete_with("Foreground")
    shield = Shield(live)
    await live.until(shield.is_pod_gone)
    await live.until(lambda: is_absent(live, Kind.SERVICE))
    assert await live.child(Kind.NETWORK_POLICY) is not None
    await live.change({"spec": {"storage": {"reclaimPolicy": "Retain"}}})
    with serving(config):
        await live.until_gone()
        await live.until(lambda: is_absent(live, Kind.NETWORK_POLICY))
    kept = await live.child(Kind.PVC)
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    assert not kept["metadata"].keys() & {"deletionTimestamp", "ownerReferences"}


async def test_deleted_policy_stays_in_force_until_its_pod_is_gone(live: Live, operator: None) -> None:
    await live.create(podMetadata=SLOW)
    await live.until_ready()
    policy, pod = await live.child(Kind.NETWORK_POLICY), await live.pod()
    assert policy is not None
    await live.delete(Kind.NETWORK_POLICY.resource, "user-storage-alice")
    await live.change_child(Kind.NETWORK_POLICY, {"spec": {"egress": [{}]}})

    async def is_closed_again() -> bool:
        held = await live.child(Kind.NETWORK_POLICY)
        assert held is not None
        assert held["metadata"]["uid"] == policy["metadata"]["uid"]
        return "egress" not in held["spec"]

    await live.until(is_closed_again)
    assert (await live.pod())["metadata"]["uid"] == pod["metadata"]["uid"]
    assert await live.condition("NetworkReady") == ("True", "Synced")
    await live.delete(Kind.POD.resource, "user-storage-alice")
    shield = Shield(live)

    async def is_replaced() -> bool:
        await shield.is_pod_gone()
        now = await live.child(Kind.POD)
        return now is not None and now["metadata"]["uid"] != pod["metadata"]["uid"]

    await live.until(is_replaced)
    fresh = await live.child(Kind.NETWORK_POLICY)
    assert fresh is not None
    assert fresh["metadata"]["uid"] != policy["metadata"]["uid"]
    assert "deletionTimestamp" not in fresh["metadata"]


@pytest.mark.produces("Ready/NetworkNotReady")
async def test_policy_that_another_controller_keeps_is_named_and_waited_for(live: Live, operator: RecordedMetrics) -> None:
    keep = ["userstorage.dev/pod-gone", "example.org/audit"]
    await live.create()
    await live.until_ready()
    await live.change_child(Kind.NETWORK_POLICY, {"metadata": {"finalizers": keep}})
    await live.delete(Kind.NETWORK_POLICY.resource, "user-storage-alice")
    await live.delete(Kind.POD.resource, "user-storage-alice")
    message = await live.until_condition("Ready", "False", "NetworkNotReady")
    assert "finalizers of other controllers keep it: example.org/audit" in message
    assert message == await live.until_condition("NetworkReady", "False", "Pending")
    await asyncio.sleep(2)  # no loop of creations
    before = operator.writes()
    await asyncio.sleep(3)
    assert operator.writes() == before
    assert await live.child(Kind.POD) is None
    await live.change_child(Kind.NETWORK_POLICY, {"metadata": {"finalizers": None}})
    await live.until_ready()
    await live.until_condition("NetworkReady", "True", "Synced")


async def test_policy_of_a_blocked_user_is_released_without_a_pod(live: Live, operator: None) -> None:
    await live.create()
    await live.until_ready()
    await live.change({"spec": {"className": "no-such-class", "replicas": 0}})
    await live.until_condition("Stalled", "True", "ClassNotFound")
    await live.until(lambda: is_absent(live, Kind.POD))
    await live.delete(Kind.NETWORK_POLICY.resource, "user-storage-alice")
    await live.until(lambda: is_absent(live, Kind.NETWORK_POLICY))


async def test_replacing_a_deleted_object_without_finalizers_keeps_the_pod_shielded(
    live: Live, api: Kubectl, operator: None
) -> None:
    await live.until_kind_is_collected()
    await live.create(podMetadata=SLOW)
    await live.until_ready()
    await live.delete(USER_STORAGES, "alice")
    raw = await live.get()
    assert raw is not None
    del raw["metadata"]["finalizers"], raw["metadata"]["resourceVersion"]
    await asyncio.to_thread(api.run, "replace", "-n", live.namespace, "-f", "-", input=json.dumps(raw))
    await live.until_gone()
    assert await live.child(Kind.POD) is not None
    shield = Shield(live)
    await live.until(shield.is_pod_gone)
    await live.until(lambda: is_absent(live, Kind.NETWORK_POLICY))  # nothing of the user holds it any more


async def test_policy_without_user_is_released_when_the_operator_starts(live: Live) -> None:
    config = Config(namespaces=(live.namespace,), http_port=0, sweep_period=3600)
    await live.until_kind_is_collected()
    with serving(config):
        await live.create()
        await live.until_ready()
    await live.delete_with("Orphan")

    async def is_orphaned() -> bool:
        raw = await live.get()
        return raw is not None and "orphan" not in raw["metadata"]["finalizers"]

    await live.until(is_orphaned)
    await live.change({"metadata": {"finalizers": None}})  # by force
    await live.until_gone()
    await live.delete(Kind.POD.resource, "user-storage-alice")
    await live.until(lambda: is_absent(live, Kind.POD))
    await live.delete(Kind.NETWORK_POLICY.resource, "user-storage-alice")
    assert await live.child(Kind.NETWORK_POLICY) is not None
    with serving(config):
        await live.until(lambda: is_absent(live, Kind.NETWORK_POLICY))


async def test_next_object_of_the_user_waits_for_the_policy_of_the_former(live: Live, api: Kubectl, operator: None) -> None:
    await live.until_kind_is_collected()
    await live.create(podMetadata=SLOW)
    before = (await live.until_ready())["status"]["podUID"]
    await live.delete_with("Foreground")
    await live.change({"metadata": {"finalizers": None}})  # by force
    await live.until_gone()
    await live.create("second", user_id="alice")
    after = await live.until_ready("second")
    assert after["status"]["podUID"] != before


async def test_foreground_deletion_ends_although_the_policy_waits_for_an_orphaned_pod(live: Live, operator: None) -> None:
    await live.until_kind_is_collected()
    await live.create()
    await live.until_ready()
    await live.change({"metadata": {"annotations": {ANNOTATION_PAUSED: "true"}}})  # the owner is not restored
    await live.until_condition("Paused", "True", "Paused")
    await live.change_child(Kind.POD, {"metadata": {"ownerReferences": None}})
    await live.delete_with("Foreground")
    await live.until_gone()
    assert "deletionTimestamp" not in (await live.pod())["metadata"]
    policy = await live.child(Kind.NETWORK_POLICY)
    assert policy is not None
    assert "ownerReferences" not in policy["metadata"]
    await live.delete(Kind.POD.resource, "user-storage-alice")

    async def is_policy_gone() -> bool:
        return await live.child(Kind.NETWORK_POLICY) is None

    await live.until(is_policy_gone)


async def test_orphaning_deletion_leaves_the_pod_alone(live: Live, operator: None) -> None:
    await live.create()
    before = await live.until_ready()
    await live.delete_with("Orphan")
    await live.until_gone()
    await asyncio.sleep(1)  # a deletion that was in flight would have arrived by now
    pod = await live.pod()
    assert pod["metadata"]["uid"] == before["status"]["podUID"]
    assert not pod["metadata"].keys() & {"deletionTimestamp", "ownerReferences"}
    policy = await live.child(Kind.NETWORK_POLICY)
    assert policy is not None
    assert "deletionTimestamp" not in policy["metadata"]
