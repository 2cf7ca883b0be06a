"""UserStorageClasses: the default class, limits per namespace, and the rollout of changes to users."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support.live import LIFE, Live, condition_of
from userstorage_operator.api.errors import NotFound
from userstorage_operator.api.names import ANNOTATION_DEFAULT_CLASS
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

DEFAULT = {ANNOTATION_DEFAULT_CLASS: "true"}
MakeClass = Callable[..., Awaitable[str]]


@pytest.fixture
async def make_class(live: Live) -> AsyncIterator[MakeClass]:
    """A function that creates a class named after the test's namespace; the classes are deleted after the test."""
    created: list[str] = []

    async def create(suffix: str = "class", **spec: Any) -> str:
        name = f"{suffix}-{live.namespace}"
        await live.create_class(name, **spec)
        created.append(name)
        return name

    yield create
    for name in created:
        with contextlib.suppress(NotFound):
            await live.delete_class(name)


async def until_class_condition(live: Live, name: str, condition_type: str, status: str, reason: str) -> Unstructured:
    async def matching_class() -> Unstructured | None:
        raw = await live.get_class(name)
        return raw if condition_of(raw, condition_type) == (status, reason) else None

    found: Unstructured = await live.until(matching_class)
    return found


async def until_counts(live: Live, name: str, **expected: int) -> None:
    async def is_reported() -> bool:
        status = (await live.get_class(name)).get("status", {})
        return all(status.get(field) == count for field, count in expected.items())

    await live.until(is_reported)


async def test_class_status_counts_its_users(live: Live, operator_of_all: None, make_class: MakeClass) -> None:
    name = await make_class()
    await until_class_condition(live, name, "Ready", "True", "Valid")
    await until_class_condition(live, name, "ImagePinned", "False", "NoDigest")
    await until_class_condition(live, name, "Default", "False", "NotDefault")
    await live.create("alice", className=name)
    await live.create("bob", className=name, replicas=0)
    await live.create("carol", className=name, podMetadata={"annotations": {LIFE: "image-pull-backoff"}})
    await until_counts(live, name, users=3, updated=3, pending=0, failed=1)
    await live.delete(USER_STORAGES, "carol")
    await until_counts(live, name, users=2, updated=2, failed=0)


async def test_invalid_class_is_reported_in_its_status(live: Live, operator_of_all: None, make_class: MakeClass) -> None:
    auth = {"mode": "None", "acknowledgeUnauthenticated": True}
    name = await make_class(browser={"flavor": "Dufs", "permissions": {"share": True}}, auth=auth)
    raw = await until_class_condition(live, name, "Ready", "False", "InvalidSpec")
    [message] = [entry["message"] for entry in raw["status"]["conditions"] if entry["type"] == "Ready"]
    assert "spec.browser.permissions.share" in message
    image = f"example.org/dufs@sha256:{'0' * 64}"
    await live.change_class(name, {"spec": {"browser": {"permissions": {"share": False}, "image": image}}})
    await until_class_condition(live, name, "Ready", "True", "Valid")
    await until_class_condition(live, name, "ImagePinned", "True", "Digest")


async def test_older_of_two_default_classes_wins(live: Live, operator_of_all: None, make_class: MakeClass) -> None:
    names = [await make_class(suffix, annotations=DEFAULT, browser={"port": 9000}) for suffix in ("a", "b")]
    classes = [(await live.get_class(name))["metadata"] for name in names]
    [older, newer] = [meta["name"] for meta in sorted(classes, key=lambda meta: (meta["creationTimestamp"], meta["uid"]))]
    await until_class_condition(live, older, "Default", "True", "SeveralDefaults")
    await until_class_condition(live, newer, "Default", "False", "OlderDefaultWins")
    await live.create()
    await live.until_ready()
    assert (await live.pod())["metadata"]["annotations"]["userstorage.dev/class"] == older
    await until_counts(live, older, users=1)
    await live.delete_class(older)
    await until_class_condition(live, newer, "Default", "True", "Default")
    await until_counts(live, newer, users=1)


@pytest.mark.produces("Ready/QuotaExceeded", "Stalled/QuotaExceeded")
async def test_class_limit_per_namespace_is_enforced(live: Live, operator: None, make_class: MakeClass) -> None:
    name = await make_class(limits={"maxPerNamespace": 2})
    for user in ("alice", "bob"):
        await live.create(user, className=name)
        await live.until_ready(user)
    await live.create("carol", className=name)
    message = await live.until_condition("Ready", "False", "QuotaExceeded", "carol")
    assert f"class '{name}' allows 2 UserStorages per namespace (limits.maxPerNamespace)" in message
    assert await live.condition("Stalled", "carol") == ("True", "QuotaExceeded")
    for kind in (Kind.NETWORK_POLICY, Kind.PVC, Kind.SERVICE, Kind.POD):
        assert await live.child(kind, "carol") is None
    await live.delete(USER_STORAGES, "alice")
    await live.until_ready("carol")
    assert await live.condition("Ready", "bob") == ("True", "PodReady")


async def test_lowered_limit_keeps_existing_users(live: Live, operator: None, make_class: MakeClass) -> None:
    name = await make_class()
    await live.create("alice", className=name)
    await live.create("bob", className=name)
    before = {user: (await live.until_ready(user))["status"]["podUID"] for user in ("alice", "bob")}
    await live.change_class(name, {"spec": {"limits": {"maxPerNamespace": 1}}})
    for user in ("alice", "bob"):
        if await live.condition("Stalled", user) == ("False", "NotStalled"):
            continue
        assert await live.condition("Ready", user) == ("True", "PodReady")
    assert {user: (await live.pod(user))["metadata"]["uid"] for user in ("alice", "bob")} == before


@pytest.mark.produces("PodUpToDate/WaitingForRollout")
async def test_class_rollout_respects_max_unavailable(live: Live, operator_of_all: None, make_class: MakeClass) -> None:
    name = await make_class(rollout={"maxUnavailable": 1})
    users = ("alice", "bob")
    for user in users:
        await live.create(user, className=name)
        await live.until_ready(user)
    await live.create("broken", className=name, podMetadata={"annotations": {LIFE: "never-ready"}})
    await live.until_condition("Ready", "False", "PodNotReady", "broken")
    broken = (await live.pod("broken"))["metadata"]["uid"]
    await live.change_class(name, {"spec": {"browser": {"port": 9999}}})
    for user in users:  # the broken user already uses up maxUnavailable
        await live.until_condition("PodUpToDate", "False", "WaitingForRollout", user)
        assert await live.condition("Ready", user) == ("True", "PodReady")
    await until_class_condition(live, name, "Reconciling", "True", "RollingOut")
    await until_counts(live, name, pending=2)

    async def replaced() -> bool:
        pod = await live.child(Kind.POD, "broken")
        return pod is not None and pod["metadata"]["uid"] != broken

    await live.until(replaced)  # its pod was not ready, so replacing it needs no slot of the rollout
    await live.change({"spec": {"podMetadata": {"annotations": {LIFE: None}}}}, "broken")
    for user in (*users, "broken"):
        await live.until_condition("PodUpToDate", "True", "UpToDate", user)
        await live.until_ready(user)
        assert (await live.pod(user))["spec"]["containers"][0]["ports"][0]["containerPort"] == 9999
    await until_counts(live, name, updated=3, pending=0)
    await until_class_condition(live, name, "Reconciling", "False", "Done")


async def test_spec_change_does_not_wait_for_class_rollout(live: Live, operator: None, make_class: MakeClass) -> None:
    name = await make_class(rollout={"maxUnavailable": 1})
    await live.create("alice", className=name)
    await live.create("broken", className=name, podMetadata={"annotations": {LIFE: "never-ready"}})
    before = (await live.until_ready())["status"]["podUID"]
    await live.until_condition("Ready", "False", "PodNotReady", "broken")
    await live.change_class(name, {"spec": {"browser": {"port": 9999}}})
    await live.until_condition("PodUpToDate", "False", "WaitingForRollout")
    await live.change({"spec": {"storage": {"readOnly": True}}})
    assert (await live.until_ready())["status"]["podUID"] != before


async def test_deferred_update_keeps_current_endpoint(live: Live, operator: None, make_class: MakeClass) -> None:
    name = await make_class()
    await live.create(className=name, lifecycle={"updateStrategy": "WhenSuspended"})
    before = await live.until_ready()
    await live.change_class(name, {"spec": {"browser": {"port": 9999, "basePath": "/files/"}}})
    await live.until_condition("PodUpToDate", "False", "UpdateDeferred")
    assert await port_let_in(live) == 8080
    assert (await live.until_ready())["status"]["url"] == before["status"]["url"]
    assert await live.condition("NetworkReady") == ("True", "Synced")
    await live.change({"spec": {"replicas": 0}})
    await live.until_condition("Suspended", "True", "Requested")
    await live.change({"spec": {"replicas": 1}})
    assert (await live.until_ready())["status"]["url"] == f"{before['status']['url']}files/"
    assert await port_let_in(live) == 9999


async def port_let_in(live: Live) -> int:
    policy = await live.child(Kind.NETWORK_POLICY)
    assert policy is not None
    [rule] = policy["spec"]["ingress"]
    [port] = rule["ports"]
    return int(port["port"])


@pytest.mark.parametrize("suspended", [False, True])
async def test_user_of_invalid_class_can_be_suspended_and_deleted(
    live: Live, operator: None, make_class: MakeClass, suspended: bool
) -> None:
    auth = {"mode": "None", "acknowledgeUnauthenticated": True}
    name = await make_class(browser={"flavor": "Dufs"}, auth=auth)
    await live.create(className=name)
    await live.until_ready()
    await live.change_class(name, {"spec": {"browser": {"permissions": {"share": True}}}})
    await live.until_condition("Stalled", "True", "InvalidSpec")
    assert await live.condition("Ready") == ("True", "PodReady")
    if suspended:
        await live.change({"spec": {"replicas": 0}})
        await live.until(lambda: gone(live, Kind.POD))
        await live.until_condition("Suspended", "True", "Requested")
    await live.delete(USER_STORAGES, "alice")
    await live.until(lambda: gone(live))


async def gone(live: Live, kind: Kind | None = None) -> bool:
    found = await live.get() if kind is None else await live.child(kind)
    return found is None


async def test_lowered_maximum_size_keeps_existing_claims(live: Live, operator: None, make_class: MakeClass) -> None:
    name = await make_class(storage={"maxSize": "20Gi"})
    await live.create("alice", className=name, storage={"size": "15Gi"})
    before = (await live.until_ready())["status"]["podUID"]
    await live.change_class(name, {"spec": {"storage": {"maxSize": "10Gi"}}})
    await live.create("bob", className=name, storage={"size": "15Gi"})
    assert "15Gi exceeds storage.maxSize 10Gi" in await live.until_condition("Stalled", "True", "InvalidSpec", "bob")
    await live.delete(Kind.POD.resource, "user-storage-alice")

    async def is_recreated() -> bool:
        return bool((await live.until_ready())["status"]["podUID"] != before)

    await live.until(is_recreated)
    assert await live.condition("Stalled") == ("False", "NotStalled")
