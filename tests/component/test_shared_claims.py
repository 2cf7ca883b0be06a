"""One claim for many users, with a directory for each: `userstorage.dev/shareable: Directories`."""

import asyncio
from typing import Any

import pytest

from support.live import Live
from support.volumes import SHARED, create_claim
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

OWN = {"claimName": "homes", "subPath": "${slug}"}


def homes(sub_path: str | None = None, **fields: Any) -> Unstructured:
    return {"claimName": "homes", **({"subPath": sub_path} if sub_path is not None else {}), **fields}


async def label(live: Live, value: str | None) -> None:
    labels = {"metadata": {"labels": {"userstorage.dev/shareable": value}}}
    await live.client.merge_patch(Kind.PVC.resource, live.namespace, "homes", labels)


async def create_homes(live: Live, **labels: str) -> None:
    await create_claim(live, "homes", mode="ReadWriteMany", labels=labels or SHARED)


async def test_fifty_users_share_a_claim_with_a_directory_each(live: Live, operator: None) -> None:
    await create_homes(live)
    users = [f"user-{number:02}" for number in range(50)]
    await asyncio.gather(*(live.create(user, storage=OWN) for user in users))
    for user in users:
        assert (await live.until_ready(user))["status"]["storage"]["claimName"] == "homes"
        [files, *_] = (await live.pod(user))["spec"]["containers"][0]["volumeMounts"]
        assert files["subPath"] == user
        assert await live.condition("StorageReady", user) == ("True", "ClaimBound")
    await live.delete(USER_STORAGES, users[0])

    async def is_gone() -> bool:
        return await live.get(users[0]) is None

    await live.until(is_gone)
    kept = await live.client.get(Kind.PVC.resource, live.namespace, "homes")
    assert "deletionTimestamp" not in kept["metadata"]
    assert "ownerReferences" not in kept["metadata"]
    for user in users[1:]:
        assert await live.condition("Ready", user) == ("True", "PodReady")


async def test_label_of_the_claim_decides_whether_many_may_share_it(live: Live, operator: None) -> None:
    await create_homes(live, **{"userstorage.dev/shareable": "true"})
    await live.create("alice", storage=OWN)
    await live.until_ready("alice")
    await live.create("bob", storage=OWN)
    message = await live.until_condition("StorageReady", "False", "ClaimInUse", "bob")
    assert "in use by UserStorage 'alice'" in message
    assert "userstorage.dev/shareable=Directories" in message
    await label(live, "Directories")
    await live.until_ready("bob")
    assert await live.condition("Ready", "alice") == ("True", "PodReady")


async def test_one_directory_has_one_writer(live: Live, operator: None) -> None:
    await create_homes(live)
    await live.create("alice", storage=homes("team/a"))
    await live.until_ready("alice")
    for name, sub_path in (("same", "team/a"), ("above", "team"), ("below", "team/a/b"), ("root", None)):
        await live.create(name, storage=homes(sub_path))
        message = await live.until_condition("StorageReady", "False", "ClaimInUse", name)
        assert "UserStorage 'alice'" in message
        assert "'team/a'" in message
        assert await live.child(Kind.POD, name) is None
        await live.delete(USER_STORAGES, name)
    await live.create("beside", storage=homes("team/ab"))
    await live.until_ready("beside")


async def test_readers_share_a_directory(live: Live, operator: None) -> None:
    await create_homes(live)
    for name in ("alice", "bob"):
        await live.create(name, storage=homes("public", readOnly=True))
    for name in ("alice", "bob"):
        await live.until_ready(name)
    await live.create("writer", storage=homes("public"))
    message = await live.until_condition("StorageReady", "False", "ClaimInUse", "writer")
    assert any(f"UserStorage {name!r}" in message for name in ("alice", "bob"))  # created in the same second


async def test_claim_of_one_node_is_not_shared(live: Live, operator: None) -> None:
    await create_claim(live, "homes", labels=SHARED)
    await live.create("alice", storage=OWN)
    await live.until_ready("alice")
    await live.create("bob", storage=OWN)
    message = await live.until_condition("StorageReady", "False", "ClaimInUse", "bob")
    assert "'alice'" in message
    assert "ReadWriteMany" in message


@pytest.mark.produces("PodUpToDate/ClaimNotAllowed")
async def test_withdrawn_consent_ends_no_user(live: Live, operator: None) -> None:
    await create_homes(live)
    for name in ("alice", "bob"):
        await live.create(name, storage=OWN)
    pods = {name: (await live.until_ready(name))["status"]["podUID"] for name in ("alice", "bob")}
    await label(live, None)
    for name in ("alice", "bob"):
        message = await live.until_condition("StorageReady", "False", "ClaimNotAllowed", name)
        assert "keeps running" in message
        assert await live.condition("Ready", name) == ("True", "PodReady")
    await live.change({"spec": {"lifecycle": {"terminationGracePeriodSeconds": 7}}})
    await live.until_condition("PodUpToDate", "False", "ClaimNotAllowed")
    await label(live, "true")  # for one user, while two are running
    for name in ("alice", "bob"):
        await live.until_condition("StorageReady", "True", "ClaimBound", name)
    assert (await live.until_ready("alice"))["status"]["podUID"] != pods["alice"]  # what was deferred, though bob is running
    assert (await live.until_ready("bob"))["status"]["podUID"] == pods["bob"]
    await live.create("carol", storage=OWN)
    await live.until_condition("StorageReady", "False", "ClaimInUse", "carol")


@pytest.mark.parametrize("reason", ["UpdateDeferred", "ClaimTerminating"])
async def test_pod_is_kept_if_the_directory_that_the_spec_asks_for_next_is_in_use(
    live: Live, operator: None, reason: str
) -> None:
    await create_homes(live)
    strategy = {"updateStrategy": "WhenSuspended"} if reason == "UpdateDeferred" else {}
    await live.create("bob", storage=homes("b"))
    await live.create("alice", storage=homes("a"), lifecycle=strategy)
    await live.until_ready("bob")
    pod = (await live.until_ready("alice"))["status"]["podUID"]
    if reason == "ClaimTerminating":
        await live.delete(Kind.PVC.resource, "homes")
        await live.until_condition("StorageReady", "False", "ClaimTerminating")
    await live.change({"spec": {"storage": {"subPath": "b"}}})
    await live.until_condition("PodUpToDate", "False", reason)
    if reason == "UpdateDeferred":
        message = await live.until_condition("StorageReady", "False", "ClaimInUse")
        assert "UserStorage 'bob'" in message
        assert "keeps running where it was" in message
    await asyncio.sleep(2)  # several reconciles
    assert (await live.pod())["metadata"]["uid"] == pod
    assert await live.condition("Ready") == ("True", "PodReady")
    assert await live.condition("Stalled") == ("False", "NotStalled")


async def test_deleted_shared_claim_keeps_its_users(live: Live, operator: None) -> None:
    await create_homes(live)
    for name in ("alice", "bob"):
        await live.create(name, storage=OWN)
        await live.until_ready(name)
    await live.delete(Kind.PVC.resource, "homes")
    for name in ("alice", "bob"):
        await live.until_condition("StorageReady", "False", "ClaimTerminating", name)
        assert await live.condition("Ready", name) == ("True", "PodReady")
    await live.create("carol", storage=OWN)
    await live.until_condition("StorageReady", "False", "ClaimTerminating", "carol")
    assert await live.child(Kind.POD, "carol") is None
    await live.delete(USER_STORAGES, "alice")

    async def is_gone() -> bool:
        return await live.get("alice") is None

    await live.until(is_gone)
    kept = await live.client.get(Kind.PVC.resource, live.namespace, "homes")  # bob's pod keeps it
    assert "deletionTimestamp" in kept["metadata"]
    assert await live.condition("Ready", "bob") == ("True", "PodReady")
