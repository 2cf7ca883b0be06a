"""The annotation userstorage.dev/paused, and `rollout.paused` of a class."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.inprocess import RecordedMetrics
from support.live import Live, condition_of
from support.plugin import Plugin
from userstorage_operator.api.names import ANNOTATION_PAUSED, FINALIZER
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = pytest.mark.kwok


async def pause(live: Live, value: str | None = "true", name: str = "alice") -> None:
    await live.change({"metadata": {"annotations": {ANNOTATION_PAUSED: value}}}, name)


async def state(live: Live) -> list[Unstructured | None]:
    """Return alice's children, and her object without what a tenant writes and without the condition Paused."""
    found = await live.get()
    assert found is not None
    conditions = [entry for entry in found["status"]["conditions"] if entry["type"] != "Paused"]
    own = {"status": found["status"] | {"conditions": conditions}, "finalizers": found["metadata"].get("finalizers")}
    return [own, *[await live.child(kind) for kind in Kind if not kind.resource.optional]]


@pytest.mark.produces("Paused/Paused", "Paused/NotPaused")
async def test_paused_user_storage_is_left_alone(live: Live, operator: RecordedMetrics) -> None:
    await live.create("bob")
    await live.create()
    await live.until_ready("bob")
    uid = (await live.until_ready())["status"]["podUID"]
    await pause(live)
    message = await live.until_condition("Paused", "True", "Paused")
    assert "the annotation userstorage.dev/paused is true" in message
    await live.change({"spec": {"storage": {"readOnly": True}, "replicas": 0}})
    await live.change_child(Kind.SERVICE, {"metadata": {"labels": {"app": "mine"}}})
    await live.delete(Kind.POD.resource, "user-storage-alice")

    async def is_pod_gone() -> bool:
        return await live.child(Kind.POD) is None

    await live.until(is_pod_gone)
    before, writes = await state(live), operator.writes()
    await asyncio.sleep(3)
    assert await state(live) == before
    assert operator.writes() == writes
    explained = await asyncio.to_thread(Plugin(Path(os.environ["KUBECONFIG"]), live.namespace), "explain", "alice")
    assert "Paused=True Paused" in explained.stdout
    assert "PodReady" not in explained.stdout
    assert await live.condition("Ready", "bob") == ("True", "PodReady")

    await live.change({"spec": {"replicas": 1}})
    await pause(live, None)
    assert (await live.until_ready())["status"]["podUID"] != uid
    assert await live.condition("Paused") == ("False", "NotPaused")
    assert (await live.pod())["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"]
    service = await live.child(Kind.SERVICE)
    assert service is not None
    assert service["metadata"]["labels"]["app"] == "filebrowser"


async def test_user_storage_that_is_created_paused_gets_nothing(live: Live, operator: RecordedMetrics) -> None:
    body = {
        "apiVersion": "userstorage.dev/v1",
        "kind": "UserStorage",
        "metadata": {"name": "alice", "annotations": {ANNOTATION_PAUSED: "true"}},
        "spec": {"userID": "alice"},
    }
    await live.client.create(USER_STORAGES, live.namespace, body)
    await live.until_condition("Paused", "True", "Paused")
    found = await live.get()
    assert found is not None
    assert FINALIZER not in found["metadata"].get("finalizers", ())
    assert "observedGeneration" not in found["status"]
    for kind in Kind:
        if not kind.resource.optional:
            assert await live.child(kind) is None
    await pause(live, "false")
    await live.until_ready()


async def test_paused_user_storage_can_be_deleted(live: Live, operator: RecordedMetrics) -> None:
    await live.create()
    await live.until_ready()
    await pause(live)
    await live.until_condition("Paused", "True", "Paused")
    await live.delete(USER_STORAGES, "alice")

    async def is_gone() -> bool:
        return await live.get() is None and await live.child(Kind.POD) is None

    await live.until(is_gone)


async def test_other_value_does_not_pause_and_the_condition_says_so(live: Live, operator: RecordedMetrics) -> None:
    await live.create()
    await live.until_ready()
    await pause(live, "True")

    async def message() -> str:
        found = await live.get()
        assert found is not None
        return str(next(entry["message"] for entry in found["status"]["conditions"] if entry["type"] == "Paused"))

    assert await live.until(message) == "the annotation userstorage.dev/paused is 'True'; only 'true' pauses"
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "True", "Requested")


@pytest.fixture
async def held_class(live: Live) -> AsyncIterator[str]:
    """A class whose rollout is paused."""
    name = f"held-{live.namespace}"
    await live.create_class(name, rollout={"paused": True, "maxUnavailable": "100%"})
    yield name
    await live.delete_class(name)


@pytest.mark.produces("PodUpToDate/RolloutPaused")
async def test_paused_rollout_holds_every_pod_until_it_continues(
    live: Live, operator_of_all: RecordedMetrics, held_class: str
) -> None:
    users = ("alice", "bob", "carol")
    for user in users:
        await live.create(user, className=held_class)
    uids = {user: (await live.until_ready(user))["status"]["podUID"] for user in users}
    await live.change_class(held_class, {"spec": {"browser": {"port": 9999}}})
    for user in users:
        assert "rollout.paused" in await live.until_condition("PodUpToDate", "False", "RolloutPaused", user)

    async def message(count: int) -> bool:
        raw = await live.get_class(held_class)
        [entry] = [entry for entry in raw.get("status", {}).get("conditions", ()) if entry["type"] == "Reconciling"] or [{}]
        waits = f"rollout.paused is true; {count} of " in entry.get("message", "")
        return waits and condition_of(raw, "Reconciling") == ("False", "RolloutPaused") and raw["status"]["pending"] == count

    await live.until(lambda: message(3))
    failed = {"status": {"phase": "Failed", "reason": "Evicted", "conditions": None}}
    await live.client.merge_patch(Kind.POD.resource, live.namespace, "user-storage-carol", failed, "status")
    await live.create("dave", className=held_class)
    for user in ("carol", "dave"):  # a failed pod is replaced, a new user served: both by the current class
        await live.until_condition("PodUpToDate", "True", "UpToDate", user)
        assert (await live.until_ready(user))["status"]["podUID"] != uids.get(user)
        assert (await live.pod(user))["spec"]["containers"][0]["ports"][0]["containerPort"] == 9999
    await live.until(lambda: message(2))
    for user in ("alice", "bob"):
        assert (await live.pod(user))["metadata"]["uid"] == uids[user]
    await live.change_class(held_class, {"spec": {"rollout": {"paused": False}}})
    for user in ("alice", "bob"):
        await live.until_condition("PodUpToDate", "True", "UpToDate", user)
        assert (await live.until_ready(user))["status"]["podUID"] != uids[user]
