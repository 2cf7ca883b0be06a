"""`kubectl userstorage restart`, and the annotation userstorage.dev/restartedAt that it sets."""

import asyncio
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from support.inprocess import RecordedMetrics
from support.live import Live
from support.plugin import Plugin
from userstorage_operator.api.names import ANNOTATION_RESTARTED_AT
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = pytest.mark.kwok


async def restart(live: Live) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(Plugin(Path(os.environ["KUBECONFIG"]), live.namespace), "restart", "alice")


async def ask(live: Live, value: str) -> None:
    await live.change({"metadata": {"annotations": {ANNOTATION_RESTARTED_AT: value}}})


@pytest.mark.parametrize("strategy", ["Immediate", "WhenSuspended"])
async def test_restart_replaces_the_pod_once(live: Live, operator: RecordedMetrics, strategy: str) -> None:
    await live.create(lifecycle={"updateStrategy": strategy})
    uid = (await live.until_ready())["status"]["podUID"]
    done = await restart(live)
    assert (done.returncode, done.stdout) == (0, "userstorage.userstorage.dev/alice restarted\n")

    async def replacement() -> Unstructured | None:
        found = await live.until_ready()
        return found if found["status"]["podUID"] != uid else None

    found = await live.until(replacement)
    pod = await live.pod()
    asked = found["metadata"]["annotations"][ANNOTATION_RESTARTED_AT]
    assert pod["metadata"]["annotations"][ANNOTATION_RESTARTED_AT] == asked
    [manager] = [
        entry["manager"]
        for entry in found["metadata"]["managedFields"]
        if f"f:{ANNOTATION_RESTARTED_AT}" in entry["fieldsV1"].get("f:metadata", {}).get("f:annotations", {})
    ]
    assert manager == "kubectl-userstorage"

    def writes() -> Counter[tuple[str, str]]:
        """Return the writes so far without Events, which are sent later than the status."""
        return Counter({request: count for request, count in operator.write_requests().items() if request[1] != "events"})

    async def is_quiet() -> bool:
        before = writes()
        await asyncio.sleep(1)
        return writes() == before

    await live.until(is_quiet)
    quiet = writes()
    await live.change({"metadata": {"labels": {"touched": "true"}}})
    await asyncio.sleep(2)
    assert writes() == quiet
    assert (await live.pod())["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_restart_does_not_start_a_suspended_user(live: Live, operator: RecordedMetrics) -> None:
    await live.create(replicas=0)
    await live.until_condition("Suspended", "True", "Requested")
    assert (await restart(live)).returncode == 0
    await asyncio.sleep(2)
    assert await live.child(Kind.POD) is None
    await live.change({"spec": {"replicas": 1}})
    await live.until_ready()
    found = await live.get()
    assert found is not None
    annotations = (await live.pod())["metadata"]["annotations"]
    assert annotations[ANNOTATION_RESTARTED_AT] == found["metadata"]["annotations"][ANNOTATION_RESTARTED_AT]


async def test_restarts_in_a_hot_loop_are_slowed_down_and_harm_no_other_user(live: Live, operator: RecordedMetrics) -> None:
    await live.create()
    await live.until_ready()
    created = operator.requests["create", "pods"]
    slowed_down = asyncio.create_task(live.until_condition("Ready", "False", "PodBackoff"))
    for number in range(40):
        await ask(live, f"loop-{number}" + "x" * 100_000)
        await asyncio.sleep(0.1)
    await live.create("bob")
    await live.until_ready("bob")
    assert operator.requests["create", "pods"] - created <= 6  # bob's, and alice's with pauses of 3, 9 and 27 s
    assert "a restart was requested" in await slowed_down
    await live.until_ready()
    annotation = (await live.pod())["metadata"]["annotations"][ANNOTATION_RESTARTED_AT]
    assert len(annotation) == 64
