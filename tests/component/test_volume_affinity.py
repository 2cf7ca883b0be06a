"""A volume attached to one node: new pods follow it or wait, and mount failures are reported."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from support.inprocess import RecordedMetrics
from support.live import HEALED, LIFE, Live
from support.volumes import create_claim, create_mounting_pod
from userstorage_operator.api.resources import CORE_EVENTS, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.claim_usage import MOUNT_REASONS
from userstorage_operator.plan import volume_affinity
from userstorage_operator.reconcile import mount_inspector

pytestmark = [pytest.mark.kwok]

OURS = "user-storage-alice"
MANY = 30


async def create_suspended_user(live: Live, **spec: Any) -> str:
    """Create alice, wait until she is ready, suspend her, and return the hash of her former pod."""
    await live.create(**spec)
    found = await live.until_ready()
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "True", "Requested")
    return str(found["status"]["appliedHash"])


async def test_new_pod_runs_on_the_node_that_has_mounted_its_volume(live: Live, operator: None) -> None:
    pod_hash = await create_suspended_user(live)
    await create_mounting_pod(live, "backup", OURS, "fake-3")
    await live.change({"spec": {"replicas": 1}})
    status = (await live.until_ready())["status"]
    assert (status["nodeName"], status["appliedHash"]) == ("fake-3", pod_hash)
    [term] = (await live.pod())["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term == {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["fake-3"]}]}
    await live.delete(Kind.POD.resource, "backup")
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})  # one more reconcile
    assert (await live.until_ready())["status"]["podUID"] == status["podUID"]


async def test_pod_on_read_write_many_volume_may_run_on_any_node(live: Live, operator: None) -> None:
    await create_claim(live, "team", mode="ReadWriteMany")
    await create_mounting_pod(live, "backup", "team", "fake-3")
    await live.create(storage={"claimName": "team"})
    await live.until_ready()
    assert "affinity" not in (await live.pod())["spec"]


@pytest.mark.produces("StorageReady/MultiAttach")
async def test_no_pod_while_volume_is_attached_to_several_nodes(live: Live, operator: None) -> None:
    await create_suspended_user(live)
    await create_mounting_pod(live, "backup", OURS, "fake-1")
    await create_mounting_pod(live, "scan", OURS, "fake-2")
    await live.change({"spec": {"replicas": 1}})
    message = await live.until_condition("StorageReady", "False", "MultiAttach")
    assert "pod 'backup' on node 'fake-1', pod 'scan' on node 'fake-2'" in message
    assert await live.condition("Ready") == ("False", "StorageNotReady")
    assert await live.child(Kind.POD) is None
    await live.delete(Kind.POD.resource, "backup")
    assert (await live.until_ready())["status"]["nodeName"] == "fake-2"


async def test_no_second_pod_on_read_write_once_pod_volume(live: Live, operator: None) -> None:
    await create_claim(live, "photos", mode="ReadWriteOncePod")
    await create_mounting_pod(live, "backup", "photos", "fake-1")
    await live.create(storage={"claimName": "photos"})
    message = await live.until_condition("StorageReady", "False", "MultiAttach")
    assert "ReadWriteOncePod and mounted by pod 'backup' on node 'fake-1'" in message
    assert await live.child(Kind.POD) is None
    await live.delete(Kind.POD.resource, "backup")
    await live.until_ready()


async def test_unschedulable_pod_is_replaced_when_volume_is_free(live: Live, operator: None) -> None:
    await create_suspended_user(live, scheduling={"nodeSelector": {"kubernetes.io/hostname": "fake-4"}})
    await create_mounting_pod(live, "backup", OURS, "fake-1")
    await live.change({"spec": {"replicas": 1}})
    message = await live.until_condition("StorageReady", "False", "MultiAttach")
    assert "pod 'backup' on node 'fake-1'" in message
    assert "nodes are available" in message  # the scheduler's message
    waiting = (await live.pod())["metadata"]["uid"]
    await live.delete(Kind.POD.resource, "backup")
    found = await live.until_ready()
    assert found["status"]["nodeName"] == "fake-4"
    assert found["status"]["podUID"] != waiting


async def create_pod_event(
    live: Live, pod: Unstructured, reason: str, message: str, age: timedelta, uid: str | None = None
) -> None:
    """Create an Event of a pod, `age` old, as the kubelet and the attach-detach controller do."""
    timestamp = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    meta = pod["metadata"]
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{meta['name']}-"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": live.namespace,
            "name": meta["name"],
            "uid": uid or meta["uid"],
        },
        "reason": reason,
        "message": message,
        "type": "Warning",
        "source": {"component": "kubelet"},
        "firstTimestamp": timestamp,
        "lastTimestamp": timestamp,
        "count": 1,
    }
    await live.client.create(CORE_EVENTS, live.namespace, event)


@pytest.mark.produces("StorageReady/FailedMount", "StorageReady/MultiAttach")
async def test_mount_failure_is_reported_from_pod_events(live: Live, operator: None) -> None:
    await live.create(podMetadata={"annotations": {LIFE: "container-creating"}})
    pod: Unstructured = await live.until(lambda: live.child(Kind.POD))
    now, old = timedelta(), timedelta(minutes=5)
    await create_pod_event(live, pod, "FailedMount", "the pod before this one", now, uid="former")
    await create_pod_event(live, pod, "FailedAttachVolume", "older than the mount", old)
    await create_pod_event(live, pod, "FailedMount", 'MountVolume.SetUp failed for volume "pvc-1": no such export', now)
    assert "no such export" in await live.until_condition("StorageReady", "False", "FailedMount")
    assert await live.condition("Ready") == ("False", "StorageNotReady")
    await create_pod_event(live, pod, "FailedAttachVolume", "Multi-Attach error for volume: already used by pod(s) x", now)
    assert "used by pod(s) x" in await live.until_condition("StorageReady", "False", "MultiAttach")
    await live.change(HEALED)
    await live.until_ready()
    await live.until_condition("StorageReady", "True", "ClaimBound")


async def test_pods_that_wait_for_volumes_share_lists_of_events(
    live: Live, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(volume_affinity, "_MOUNT_TIME", timedelta(seconds=1))
    operator: RecordedMetrics = request.getfixturevalue("operator")
    started = time.monotonic()
    names = [f"u{number}" for number in range(MANY)]
    for name in names:
        await live.create(name, podMetadata={"annotations": {LIFE: "container-creating"}})
    for name in names:
        pod: Unstructured = await live.until(partial(live.child, Kind.POD, name))
        await create_pod_event(live, pod, "FailedMount", f"no such export: {name}", timedelta())
    for name in names:
        assert f"no such export: {name}" in await live.until_condition("StorageReady", "False", "FailedMount", name)
    readings = 2 + (time.monotonic() - started) / mount_inspector._PERIOD.total_seconds()
    assert 0 < operator.requests["list", "events"] <= readings * len(MOUNT_REASONS)


async def test_missing_claims_are_asked_for_in_growing_pauses(
    live: Live, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(volume_affinity, "RECHECK_INTERVAL", timedelta(seconds=0.5))
    operator: RecordedMetrics = request.getfixturevalue("operator")
    names = [f"u{number}" for number in range(MANY)]
    for name in names:
        await live.create(name, storage={"claimName": f"missing-{name}"})
    for name in names:
        await live.until_condition("StorageReady", "False", "ClaimNotFound", name)
    counts: list[int] = []

    async def has_slowed_down() -> bool:
        before = operator.requests["get", "persistentvolumeclaims"]
        await asyncio.sleep(6)
        counts.append(operator.requests["get", "persistentvolumeclaims"] - before)
        return counts[-1] < max(counts) * 0.5

    await live.until(has_slowed_down)
    await create_claim(live, "missing-u7")
    await live.until_ready("u7")
