"""Changes of our objects by other clients are repaired; foreign objects are kept."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from support.inprocess import WRITES, RecordedMetrics
from support.kubectl import Kubectl
from support.live import LIFE, ClassOfTest, Live
from userstorage_operator.api.errors import NotFound
from userstorage_operator.api.resources import SERVICE_ACCOUNTS, USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

REPAIR_TIMES = (0, 1, 4, 13, 40, 100, 160)
"""Seconds after the first repair at which the backoff (pauses of 1, 3, 9, 27, then 60 s) permits the next."""


async def test_deleted_pod_is_recreated(live: Live, operator: None) -> None:
    await live.create()
    before = (await live.until_ready())["status"]["podUID"]
    await live.delete(Kind.POD.resource, "user-storage-alice")

    async def replaced() -> bool:
        pod = await live.child(Kind.POD)
        return pod is not None and pod["metadata"]["uid"] != before

    await live.until(replaced)
    await live.until_ready()


@pytest.mark.produces("Ready/PodBackoff")
@pytest.mark.parametrize(
    ("life", "words"), [("failed", "Failed: Evicted: The node was low on resource"), ("succeeded", "Succeeded: ")]
)
async def test_finished_pod_is_recreated_with_backoff_and_never_twice(
    live: Live, operator: None, life: str, words: str
) -> None:
    await live.create(podMetadata={"annotations": {LIFE: life}})
    pods_by_uid: dict[str, str] = {}

    async def is_created_three_times() -> bool:
        pods, _ = await live.client.list_all(Kind.POD.resource, live.namespace)
        assert len([pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]) <= 1
        pods_by_uid.update({pod["metadata"]["uid"]: pod["metadata"]["creationTimestamp"] for pod in pods})
        return len(pods_by_uid) >= 3

    await live.until(is_created_three_times)
    claims, _ = await live.client.list_all(Kind.PVC.resource, live.namespace)
    assert len(claims) == 1
    assert f"because it has terminated ({words}" in await live.until_condition("Ready", "False", "PodBackoff")


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (Kind.SERVICE, {"spec": {"selector": {"color": "blue"}}}),
        (Kind.SERVICE, {"metadata": {"labels": {"app": "other"}}}),
        (Kind.SERVICE, {"spec": {"internalTrafficPolicy": "Local"}}),
        (Kind.SERVICE, {"metadata": {"labels": {"userstorage.dev/managed-by": None}}}),
        (Kind.NETWORK_POLICY, {"spec": {"ingress": [{}]}}),
        (Kind.NETWORK_POLICY, {"spec": {"egress": [{}]}}),
        (Kind.NETWORK_POLICY, {"spec": {"podSelector": {"matchExpressions": [{"key": "no", "operator": "Exists"}]}}}),
        (Kind.NETWORK_POLICY, {"spec": {"podSelector": {"matchLabels": {"color": "blue"}}}}),
        (Kind.POD, {"metadata": {"labels": {"userId": "mallory"}}}),
        (Kind.POD, {"metadata": {"labels": {"userstorage.dev/managed-by": None}}}),
        (Kind.PVC, {"metadata": {"labels": {"app": "other"}}}),
    ],
)
async def test_manually_edited_child_is_repaired(live: Live, operator: None, kind: Kind, damage: Unstructured) -> None:
    await live.create()
    await live.until_ready()
    before = await live.child(kind)
    await live.change_child(kind, damage)

    async def is_repaired() -> bool:
        now = await live.child(kind)
        assert before is not None
        assert now is not None
        return now["metadata"]["labels"] == before["metadata"]["labels"] and (kind is Kind.POD or now["spec"] == before["spec"])

    await live.until(is_repaired)
    now = await live.child(kind)
    assert before is not None
    assert now is not None
    assert now["metadata"]["uid"] == before["metadata"]["uid"]


class Opponent:
    """Another client that undoes each write of a child, through kubectl and as the field manager `rival`."""

    def __init__(self, live: Live, api: Kubectl, kind: Kind, act: tuple[str, ...]) -> None:
        self._live = live
        self._api = api
        self._kind = kind
        self._act = act
        self._stopped = asyncio.Event()
        self.acts = 0

    @contextlib.asynccontextmanager
    async def acting(self) -> AsyncIterator[None]:
        """Act until the block is left."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._stopped.set()
            await task

    async def _run(self) -> None:
        undone = ""  # the version that the last act left behind
        while not self._stopped.is_set():
            child = await self._live.child(self._kind)
            if child is None or child["metadata"]["resourceVersion"] == undone:
                await asyncio.sleep(0.02)
                continue
            if "deletionTimestamp" in child["metadata"]:
                await self._remove_finalizers(child)
                continue
            verb, *rest = self._act
            command = (verb, self._kind.resource.plural, "user-storage-alice", "-n", self._live.namespace, *rest)
            done = await asyncio.to_thread(self._api.run, *command, check=False)
            self.acts += not done.returncode
            child = await self._live.child(self._kind) if verb == "label" else None
            undone = child["metadata"]["resourceVersion"] if child is not None and self._is_undone(child) else ""

    async def _remove_finalizers(self, child: Unstructured) -> None:
        """Let a deletion end that a finalizer of the operator holds up."""
        if child["metadata"].get("finalizers"):
            with contextlib.suppress(NotFound):
                await self._live.change_child(self._kind, {"metadata": {"finalizers": None}})
        await asyncio.sleep(0.02)

    def _is_undone(self, child: Unstructured) -> bool:
        name, _, value = self._act[1].partition("=")
        return bool(child["metadata"].get("labels", {}).get(name.rstrip("-")) == (value or None))


RELABEL = ("label", "app=foreign", "--overwrite", "--field-manager=rival")
UNMANAGE = ("label", "userstorage.dev/managed-by=rival", "--overwrite", "--field-manager=rival")
DELETE = ("delete", "--wait=false")
BY_RIVAL = "field manager 'rival' keeps changing the {} back: it was repaired 3 times in quick succession"
BY_SOMEONE = "another client keeps deleting the {}: it was created again 3 times in quick succession"
CONTESTED = ("NetworkReady", "False", "Contested")


@pytest.mark.produces("NetworkReady/Contested")
@pytest.mark.parametrize(
    ("kind", "act", "words"),
    [
        pytest.param(Kind.SERVICE, RELABEL, BY_RIVAL, id="service relabelled"),
        pytest.param(Kind.SERVICE, UNMANAGE, BY_RIVAL, id="service hidden from the watch"),
        pytest.param(Kind.POD, RELABEL, BY_RIVAL, id="pod relabelled"),
        pytest.param(Kind.NETWORK_POLICY, DELETE, BY_SOMEONE, id="policy deleted"),
        pytest.param(Kind.SERVICE, DELETE, BY_SOMEONE, id="service deleted"),
        pytest.param(Kind.INGRESS, DELETE, BY_SOMEONE, id="ingress deleted"),
    ],
)
async def test_contested_child_is_repaired_after_growing_pauses(
    live: Live,
    api: Kubectl,
    exposing_class: ClassOfTest,
    operator: RecordedMetrics,
    kind: Kind,
    act: tuple[str, ...],
    words: str,
) -> None:
    await live.create(className=exposing_class.name)
    await live.until_ready()
    await live.until_condition("NetworkReady", "True", "Synced")
    await assert_contest_is_slow(live, api, operator, kind, act, words.format(kind.resource.kind), CONTESTED)
    if (kind, act) == (Kind.SERVICE, RELABEL):  # half a minute, and the same for all
        await live.until_condition("NetworkReady", "True", "Synced")
        await live.until_ready()


@pytest.mark.produces("StorageReady/Contested")
async def test_contested_claim_is_repaired_after_growing_pauses(live: Live, api: Kubectl, operator: RecordedMetrics) -> None:
    await live.create()
    await live.until_ready()
    words = BY_RIVAL.format("PersistentVolumeClaim")
    await assert_contest_is_slow(live, api, operator, Kind.PVC, RELABEL, words, ("StorageReady", "True", "Contested"))
    await live.until_condition("StorageReady", "True", "ClaimBound")
    await live.until_ready()


async def assert_contest_is_slow(
    live: Live,
    api: Kubectl,
    operator: RecordedMetrics,
    kind: Kind,
    act: tuple[str, ...],
    words: str,
    condition: tuple[str, str, str],
) -> None:
    """Fail unless the writes of the child stay within the pauses, and condition, Event and `kubectl describe` say who acts."""

    def requests() -> dict[str, int]:
        resources = (kind.resource.plural, "userstorages")
        return {f"{verb} {resource}": operator.requests[verb, resource] for verb in WRITES | {"get"} for resource in resources}

    opponent, before, started = Opponent(live, api, kind, act), requests(), time.monotonic()
    async with opponent.acting():
        message = await live.until_condition(*condition)
        await asyncio.sleep(1)
        described = await asyncio.to_thread(api.run, "describe", "us", "alice", "-n", live.namespace)
        elapsed = time.monotonic() - started
        made = {request: count - before[request] for request, count in requests().items()}
    assert words in message
    assert words in described.stdout.split("\nEvents:")[0]
    [event] = [line for line in described.stdout.split("\nEvents:")[1].splitlines() if "Contested" in line]
    assert "Warning" in event
    assert words in event
    assert opponent.acts >= 3
    allowed = sum(moment <= elapsed for moment in REPAIR_TIMES)
    for request, count in made.items():
        # The status is written twice for each of the first two repairs, and once for each further one.
        assert count <= (2 * allowed if request == "patch userstorages" else allowed), made


async def test_contested_finalizer_is_added_after_growing_pauses(live: Live, operator: RecordedMetrics) -> None:
    await live.create()
    await live.until_ready()
    before, started, removals = operator.requests["patch", "userstorages"], time.monotonic(), 0

    async def is_reported() -> bool:
        nonlocal removals
        alice = await live.get() or {}
        if alice["metadata"].get("finalizers"):
            await live.change({"metadata": {"finalizers": None}})
            removals += 1
        messages = [entry["message"] for entry in alice["status"]["conditions"] if entry["type"] == "Reconciling"]
        return any("keeps removing the operator's finalizer from the UserStorage" in message for message in messages)

    await live.until(is_reported)
    allowed = sum(moment <= time.monotonic() - started for moment in REPAIR_TIMES)
    assert removals >= 3
    # Besides the finalizer, the status is written at most twice for each repair.
    assert operator.requests["patch", "userstorages"] - before <= 3 * allowed

    async def is_protected() -> bool:
        return bool((await live.get() or {})["metadata"].get("finalizers"))

    await live.until(is_protected)


@pytest.mark.produces("Ready/Contested")
async def test_no_pod_is_created_without_its_policy(live: Live, api: Kubectl, operator: RecordedMetrics) -> None:
    await live.create(replicas=0)
    await live.until_condition("Suspended", "True", "Requested")
    async with Opponent(live, api, Kind.NETWORK_POLICY, DELETE).acting():

        async def is_absent_for_long() -> bool:
            """Whether the policy is absent, and comes back only after a pause that is long enough for the test."""
            alice = await live.get() or {}
            repaired = any("created again 4 times" in entry["message"] for entry in alice["status"]["conditions"])
            return repaired and await live.child(Kind.NETWORK_POLICY) is None

        await live.until(is_absent_for_long)
        await live.change({"spec": {"replicas": 1}})
        message = await live.until_condition("Ready", "False", "Contested")
        assert "keeps deleting the NetworkPolicy" in message
        assert await live.child(Kind.POD) is None
    await live.until_condition("Ready", "True", "PodReady")  # the contest itself is reported for another minute
    assert await live.child(Kind.NETWORK_POLICY) is not None


@pytest.mark.parametrize(
    "edit", [{"activeDeadlineSeconds": 3600}, {"containers": [{"name": "filebrowser", "image": "evil:1"}]}]
)
async def test_pod_with_edited_spec_is_replaced(live: Live, api: Kubectl, operator: None, edit: Unstructured) -> None:
    await live.create()
    before = await live.until_ready()
    patch = json.dumps({"spec": edit})
    await asyncio.to_thread(api.run, "patch", "pod", "user-storage-alice", "-n", live.namespace, "-p", patch)

    async def replaced() -> bool:
        pod = await live.child(Kind.POD)
        return pod is not None and pod["metadata"]["uid"] != before["status"]["podUID"]

    await live.until(replaced)
    await live.until_ready()
    spec = (await live.pod())["spec"]
    assert "activeDeadlineSeconds" not in spec
    assert spec["containers"][0]["image"] == before["status"]["image"]


@pytest.mark.parametrize("kind", [Kind.NETWORK_POLICY, Kind.SERVICE])
async def test_deleted_child_is_recreated(live: Live, operator: None, kind: Kind) -> None:
    await live.create()
    await live.until_ready()
    pod = (await live.pod())["metadata"]["uid"]
    await live.delete(kind.resource, "user-storage-alice")
    await live.until(lambda: live.child(kind))
    assert (await live.pod())["metadata"]["uid"] == pod


@pytest.mark.parametrize("kind", [Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD, Kind.INGRESS])
async def test_removed_owner_is_restored(live: Live, operator: None, exposing_class: ClassOfTest, kind: Kind) -> None:
    alice = await live.create(className=exposing_class.name)
    await live.until_ready()
    await live.until(lambda: live.child(kind))
    account = await live.client.get(SERVICE_ACCOUNTS, live.namespace, "default")
    other = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "default", "uid": account["metadata"]["uid"]}
    before = await live.change_child(kind, {"metadata": {"ownerReferences": [other]}})

    async def owners() -> list[tuple[str, bool]]:
        child = await live.child(kind)
        assert child is not None
        assert child["metadata"]["uid"] == before["metadata"]["uid"]
        return [(owner["uid"], bool(owner.get("controller"))) for owner in child["metadata"]["ownerReferences"]]

    async def is_restored() -> bool:
        return await owners() == [(other["uid"], False), (alice["metadata"]["uid"], True)]

    await live.until(is_restored)


@pytest.mark.parametrize("spec", [{}, {"storage": {"readOnly": True}}], ids=["same spec", "another spec"])
async def test_orphaned_children_are_taken_back(live: Live, operator: RecordedMetrics, spec: dict[str, Any]) -> None:
    await live.create()
    before = (await live.until_ready())["status"]["podUID"]
    claim = await live.child(Kind.PVC)
    assert claim is not None
    await live.delete_with("Orphan")
    await live.until_gone()
    created = await live.create(**spec)
    after = await live.until_ready()
    assert (after["status"]["podUID"] == before) == (not spec)
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.POD):
        child = await live.child(kind)
        assert child is not None
        assert [owner["uid"] for owner in child["metadata"]["ownerReferences"]] == [created["metadata"]["uid"]]
        assert child["metadata"]["labels"]["userstorage.dev/uid"] == created["metadata"]["uid"]
    kept = await live.child(Kind.PVC)
    assert kept is not None
    assert kept["metadata"]["uid"] == claim["metadata"]["uid"]
    writes = operator.writes()
    await asyncio.sleep(2)
    assert operator.writes() == writes


async def test_children_restored_before_their_user_are_taken_over(live: Live, api: Kubectl, operator: None) -> None:
    """Restore as Velero does: claims, pods, Services and NetworkPolicies first, without owners and finalizers; then the UserStorages."""
    users = ["alice", "bob", "carol"]
    await asyncio.gather(*(live.create(user) for user in users))
    backup: list[Unstructured] = []
    for user in users:
        await live.until_ready(user)
        backup += [_as_restored(kind, await live.child(kind, user)) for kind in (Kind.POD, Kind.SERVICE, Kind.NETWORK_POLICY)]
    for user in users:
        await live.delete(USER_STORAGES, user)
        await live.until(partial(_is_user_gone, live, user))
    claims = [await live.child(Kind.PVC, user) for user in users]
    restored = json.dumps({"apiVersion": "v1", "kind": "List", "items": backup})
    await asyncio.to_thread(api.run, "create", "-n", live.namespace, "-f", "-", input=restored)
    await asyncio.gather(*(live.create(user) for user in users))
    for user in users:
        await live.until_ready(user)
        assert await live.condition("NetworkReady", user) == ("True", "Synced")
    assert [(claim or {})["metadata"]["uid"] for claim in claims] == [
        ((await live.child(Kind.PVC, user)) or {})["metadata"]["uid"] for user in users
    ]


async def _is_user_gone(live: Live, user: str) -> bool:
    gone = [await live.get(user), *[await live.child(kind, user) for kind in (Kind.POD, Kind.SERVICE, Kind.NETWORK_POLICY)]]
    return gone == [None] * 4


def _as_restored(kind: Kind, child: Unstructured | None) -> Unstructured:
    """Return the child as a backup tool creates it again."""
    assert child is not None
    meta = {key: child["metadata"][key] for key in ("name", "labels", "annotations")}
    assigned = ("clusterIP", "clusterIPs", "nodeName")
    spec = {key: value for key, value in child["spec"].items() if key not in assigned}
    return {"apiVersion": kind.resource.api_version, "kind": kind.resource.kind, "metadata": meta, "spec": spec}


async def test_orphaned_pod_without_hash_is_replaced(live: Live, operator: None) -> None:
    labels = {"app": "filebrowser", "userId": "alice", "userstorage.dev/managed-by": "userstorage-operator"}
    container = {
        "name": "filebrowser",
        "image": "example.org/unknown:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, "containers": [container]}
    annotations = {"userstorage.dev/user-id": "alice"}
    stray = await live.create_object(Kind.POD, "user-storage-alice", spec, labels=labels, annotations=annotations)
    await live.create()
    assert (await live.until_ready())["status"]["podUID"] != stray["metadata"]["uid"]


FOREIGN_SPECS: dict[Kind, dict[str, Any]] = {
    Kind.SERVICE: {"ports": [{"port": 1}]},
    Kind.NETWORK_POLICY: {"podSelector": {}},
    Kind.PVC: {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.mark.produces("Ready/NameConflict", "Stalled/NameConflict")
@pytest.mark.parametrize("kind", FOREIGN_SPECS)
@pytest.mark.parametrize("forged", [False, True], ids=["plain", "with our labels"])
async def test_foreign_object_with_our_name_is_kept(live: Live, operator: None, kind: Kind, forged: bool) -> None:
    labels = {"app": "filebrowser", "userId": "alice", "userstorage.dev/managed-by": "userstorage-operator"} if forged else {}
    before = await live.create_object(kind, "user-storage-alice", FOREIGN_SPECS[kind], labels=labels)
    await live.create()
    message = await live.until_condition("Ready", "False", "NameConflict")
    assert f"{kind.resource.kind} 'user-storage-alice'" in message
    assert await live.condition("Stalled") == ("True", "NameConflict")
    await asyncio.sleep(3)  # several retries
    now = await live.child(kind)
    assert now is not None
    assert now["metadata"]["uid"] == before["metadata"]["uid"]
    assert now["metadata"].get("labels", {}) == labels
    assert "annotations" not in now["metadata"] or "userstorage.dev/user-id" not in now["metadata"]["annotations"]
    if kind is not Kind.PVC:  # kwok binds foreign claims, too
        assert now["spec"] == before["spec"]
    assert await live.child(Kind.POD) is None


async def test_older_object_owns_user_id_and_younger_takes_over_after_its_deletion(live: Live, operator: None) -> None:
    await live.create("first", user_id="alice")
    await live.until_ready("first")
    pod = (await live.pod())["metadata"]["uid"]
    await asyncio.sleep(1)  # creation timestamps have whole seconds
    await live.create("second", user_id="alice")
    message = await live.until_condition("Stalled", "True", "UserIDConflict", "second")
    assert "spec.userID" in message
    assert "'first'" in message
    second = await live.get("second")
    assert second is not None
    assert "finalizers" not in second["metadata"]
    assert (await live.pod())["metadata"]["uid"] == pod
    await live.delete(USER_STORAGES, "first")
    await live.until_ready("second")
    assert (await live.pod())["metadata"]["uid"] != pod


@pytest.mark.produces("Ready/UserIDConflict", "Stalled/UserIDConflict", "NetworkReady/Pending")
async def test_simultaneous_objects_of_one_user_have_one_owner(live: Live, operator: None) -> None:
    names = [f"same-{number}" for number in range(6)]
    await asyncio.gather(*(live.create(name, user_id="alice") for name in names))

    async def have_one_owner() -> bool:
        conditions = [await live.condition("Ready", name) for name in names]
        return sorted(conditions) == [("False", "UserIDConflict")] * 5 + [("True", "PodReady")]

    await live.until(have_one_owner)
    stalled = [await live.condition("Stalled", name) for name in names]
    assert sorted(stalled) == [("False", "NotStalled")] + [("True", "UserIDConflict")] * 5


@pytest.mark.produces("Ready/WaitingForGarbageCollection", "Reconciling/Retrying")
async def test_child_of_deleted_user_storage_is_replaced_after_its_garbage_collection(live: Live, operator: None) -> None:
    former = {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "name": "alice", "uid": "gone", "controller": True}
    # The finalizer stands in for a slow garbage collector.
    leftover = {"ownerReferences": [former], "finalizers": ["example.org/slow"]}
    before = await live.create_object(Kind.SERVICE, "user-storage-alice", FOREIGN_SPECS[Kind.SERVICE], **leftover)
    await live.create()
    message = await live.until_condition("Ready", "False", "WaitingForGarbageCollection")
    assert "Service 'user-storage-alice'" in message
    assert await live.condition("Stalled") == ("False", "NotStalled")
    await live.delete(Kind.SERVICE.resource, "user-storage-alice")
    await live.change_child(Kind.SERVICE, {"metadata": {"finalizers": None}})
    await live.until_ready()
    after = await live.child(Kind.SERVICE)
    assert after is not None
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


@pytest.mark.produces("Ready/ClassNotFound", "Stalled/ClassNotFound")
async def test_missing_class_is_reported_and_waited_for(live: Live, operator: None) -> None:
    name = f"class-{live.namespace}"
    await live.create(className=name)
    message = await live.until_condition("Ready", "False", "ClassNotFound")
    assert f"spec.className: there is no UserStorageClass '{name}'" in message
    await live.create_class(name, browser={"port": 9090})
    await live.until_ready()
    assert (await live.pod())["spec"]["containers"][0]["ports"][0]["containerPort"] == 9090
    await live.client.delete(USER_STORAGE_CLASSES, "", name, await _class_uid(live, name), 0, "Background")
    await live.until_condition("Stalled", "True", "ClassNotFound")
    assert await live.condition("Ready") == ("True", "PodReady")
    await live.pod()


@pytest.mark.produces("Ready/InvalidSpec", "Stalled/InvalidSpec", "PodUpToDate/Stalled")
async def test_unsupported_permission_is_reported_with_field(live: Live, operator: None) -> None:
    name = f"class-{live.namespace}"
    permissions = {"delete": False}
    auth = {"mode": "None", "acknowledgeUnauthenticated": True}
    await live.create_class(name, browser={"flavor": "Dufs", "permissions": permissions}, auth=auth)
    await live.create(className=name)
    message = await live.until_condition("Stalled", "True", "InvalidSpec")
    assert "class spec.browser.permissions" in message
    await live.client.merge_patch(USER_STORAGE_CLASSES, None, name, {"spec": {"browser": {"permissions": {"delete": True}}}})
    await live.until_ready()
    assert "--allow-delete" in (await live.pod())["spec"]["containers"][0]["args"]
    await live.client.delete(USER_STORAGE_CLASSES, "", name, await _class_uid(live, name), 0, "Background")


async def test_class_can_disable_network_policies(live: Live, operator: None) -> None:
    name = f"class-{live.namespace}"
    await live.create_class(name)
    await live.create(className=name)
    pod = (await live.until_ready())["status"]["podUID"]
    assert await live.child(Kind.NETWORK_POLICY) is not None
    await live.client.merge_patch(USER_STORAGE_CLASSES, None, name, {"spec": {"network": {"policy": "None"}}})

    async def is_deleted() -> bool:
        return await live.child(Kind.NETWORK_POLICY) is None

    await live.until(is_deleted)
    assert (await live.until_ready())["status"]["podUID"] == pod
    await live.client.delete(USER_STORAGE_CLASSES, "", name, await _class_uid(live, name), 0, "Background")


async def _class_uid(live: Live, name: str) -> str:
    found = await live.client.get(USER_STORAGE_CLASSES, None, name)
    return str(found["metadata"]["uid"])
