"""A browser that runs but cannot read its volume gets a new pod, which mounts the volume again."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.live import LIFE, Live
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.timestamps import format_time

pytestmark = [pytest.mark.kwok]

OURS = "user-storage-alice"
PATIENT = 3
"""Seconds of `startTimeout`."""
TO_FAIL = 60
"""Seconds in which the readiness probe can fail three times: a pod has at least as long to become ready again."""


async def create_user(live: Live) -> str:
    """Create alice, wait until she is Ready, and return the UID of her pod."""
    await live.create(lifecycle={"startTimeout": f"{PATIENT}s"})
    return str((await live.until_ready())["status"]["podUID"])


async def fail_readiness(live: Live, since: int = TO_FAIL - PATIENT, **container: Any) -> None:
    """Report the pod as a kubelet does whose readiness probe has failed for `since` seconds."""
    pod, now = await live.pod(), datetime.now(UTC)
    lost, started = format_time(now - timedelta(seconds=since)), format_time(now - timedelta(hours=1))
    [status] = pod["status"]["containerStatuses"]
    conditions = [
        entry | {"status": "False", "lastTransitionTime": lost} if entry["type"] in ("Ready", "ContainersReady") else entry
        for entry in pod["status"]["conditions"]
    ]
    running = {"running": {"startedAt": started}}
    statuses = [status | {"ready": False, "started": True, "state": running, **container}]
    patch = {"status": {"conditions": conditions, "containerStatuses": statuses}}
    await live.client.merge_patch(Kind.POD.resource, live.namespace, OURS, patch, "status")


async def until_replaced(live: Live, uid: str) -> str:
    async def is_new() -> str | None:
        pod = await live.child(Kind.POD)
        return str(pod["metadata"]["uid"]) if pod is not None and pod["metadata"]["uid"] != uid else None

    return str(await live.until(is_new))


async def test_pod_with_a_stale_mount_is_replaced(live: Live, operator: None) -> None:
    first = await create_user(live)
    claim = await live.child(Kind.PVC)
    await fail_readiness(live)
    await until_replaced(live, first)
    await live.until_ready()
    kept = await live.child(Kind.PVC)
    assert claim is not None
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]


async def test_container_that_cannot_start_again_on_a_stale_mount_is_replaced(live: Live, operator: None) -> None:
    first = await create_user(live)
    message = 'failed to create containerd task: stat "/var/lib/kubelet/pods/1/volumes/x": transport endpoint is not connected'
    waiting = {"waiting": {"reason": "RunContainerError", "message": message}, "running": None}
    await fail_readiness(live, started=False, state=waiting)
    await until_replaced(live, first)
    await live.until_ready()


async def test_short_failure_costs_no_pod(live: Live, operator: None) -> None:
    first = await create_user(live)
    await fail_readiness(live, since=0)
    await live.until_condition("Stalled", "True", "StartTimeout")
    await asyncio.sleep(2)
    assert (await live.pod())["metadata"]["uid"] == first


async def test_slow_start_costs_no_pod(live: Live, operator: None) -> None:
    await live.create(lifecycle={"startTimeout": f"{PATIENT}s"}, podMetadata={"annotations": {LIFE: "never-ready"}})
    first = (await live.until(lambda: live.child(Kind.POD)))["metadata"]["uid"]
    await live.until_condition("Stalled", "True", "StartTimeout")  # the program has started and reads a large volume
    await asyncio.sleep(2)
    assert (await live.pod())["metadata"]["uid"] == first


async def test_each_pod_in_a_row_has_twice_as_long_to_become_ready(live: Live, operator: None) -> None:
    await live.create(lifecycle={"startTimeout": f"{PATIENT}s"}, podMetadata={"annotations": {LIFE: "never-ready"}})

    async def is_running() -> bool:
        pod = await live.child(Kind.POD)
        return pod is not None and bool(pod.get("status", {}).get("containerStatuses"))

    await live.until(is_running)
    first = (await live.pod())["metadata"]["uid"]
    await fail_readiness(live)
    second = await until_replaced(live, first)
    await live.until(is_running)
    await fail_readiness(live, since=TO_FAIL + PATIENT)
    message = await live.until_condition("Ready", "False", "StartTimeout")
    assert "as 1 before it" in message
    assert (await live.pod())["metadata"]["uid"] == second
    await fail_readiness(live, since=2 * TO_FAIL - PATIENT)
    await until_replaced(live, second)


@pytest.mark.parametrize(
    "container",
    [
        pytest.param({"started": False}, id="the program has not started"),
        pytest.param({"ready": True}, id="another container or a gate is not ready"),
        pytest.param(
            {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}, "running": None}}, id="it crashes"
        ),
    ],
)
async def test_pod_that_fails_otherwise_is_not_replaced(live: Live, operator: None, container: dict[str, Any]) -> None:
    first = await create_user(live)
    await fail_readiness(live, **container)
    await live.until_condition("Stalled", "True", "StartTimeout")
    await asyncio.sleep(2)
    assert (await live.pod())["metadata"]["uid"] == first


async def test_pod_that_keeps_its_claim_is_not_replaced(live: Live, operator: None) -> None:
    first = await create_user(live)
    await live.delete(Kind.PVC.resource, OURS)
    await live.until_condition("StorageReady", "False", "ClaimTerminating")
    await fail_readiness(live)
    await live.until_condition("PodUpToDate", "False", "ClaimTerminating")
    await asyncio.sleep(2)
    assert (await live.pod())["metadata"]["uid"] == first
