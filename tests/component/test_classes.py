"""UserStorageClasses: the default class, limits per namespace, and the rollout of changes to users."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support.inprocess import RecordedMetrics
from support.kubectl import PATIENCE, Kubectl
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
    name = await make_class(browser={"flavor": "FileBrowser"})
    await until_class_condition(live, name, "Ready", "True", "Valid")
    await until_class_condition(live, name, "ImagePinned", "False", "NoDigest")
    await until_class_condition(live, name, "EndOfLife", "True", "NoSecurityFixes")
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
    await until_class_condition(live, name, "EndOfLife", "False", "NoneKnown")


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
    users = ("alice", "bob", "carol")
    for user in users:
        await live.create(user, className=name, podMetadata={"annotations": {LIFE: "slow-termination"}})
        await live.until_ready(user)
    before = {user: (await live.pod(user))["metadata"]["uid"] for user in users}
    await live.change_class(name, {"spec": {"browser": {"port": 9999}}})
    await until_class_condition(live, name, "Reconciling", "True", "RollingOut")

    async def waiting() -> list[str]:
        return [user for user in users if await live.condition("PodUpToDate", user) == ("False", "WaitingForRollout")]

    async def only_one_is_replaced() -> bool:
        return len(await waiting()) == 2

    await live.until(only_one_is_replaced)
    for user in await waiting():
        assert await live.condition("Ready", user) == ("True", "PodReady")
        assert (await live.pod(user))["metadata"]["uid"] == before[user]
    for user in users:
        await live.until_condition("PodUpToDate", "True", "UpToDate", user)
        await live.until_ready(user)
        assert await served_port(live, user) == 9999
    await until_counts(live, name, updated=3, pending=0)
    await until_class_condition(live, name, "Reconciling", "False", "Done")


async def served_port(live: Live, user: str) -> int:
    pod = await live.child(Kind.POD, user)
    return int(pod["spec"]["containers"][0]["ports"][0]["containerPort"]) if pod is not None else 0


@pytest.mark.parametrize("life", ["never-ready", "crash-loop"])
async def test_user_broken_before_does_not_hold_up_rollout(
    live: Live, operator_of_all: None, make_class: MakeClass, life: str
) -> None:
    name = await make_class(rollout={"maxUnavailable": "10%"})
    users = [f"user{number}" for number in range(9)]
    await live.create("broken", className=name, podMetadata={"annotations": {LIFE: life}})
    for user in users:
        await live.create(user, className=name)
    for user in users:
        await live.until_ready(user)
    await live.until(lambda: is_down(live, "broken"))
    await live.change_class(name, {"spec": {"browser": {"port": 9999}}})

    async def all_are_updated() -> bool:
        return {await served_port(live, user) for user in (*users, "broken")} == {9999}

    await live.until(all_are_updated, within=3 * PATIENCE)
    for user in users:
        await live.until_ready(user)
    await until_counts(live, name, updated=10, pending=0)


async def is_down(live: Live, user: str) -> bool:
    status, reason = await live.condition("Ready", user)
    return status == "False" and reason not in ("Pending", "PodPending")


@pytest.mark.produces("Ready/NoDefaultClass", "Stalled/NoDefaultClass")
async def test_users_of_missing_default_class_keep_everything(live: Live, operator: None, make_class: MakeClass) -> None:
    host = {"expose": "Ingress", "hostTemplate": "${slug}.${namespace}.example.org"}
    sources = [{"podSelector": {"matchLabels": {"app": "proxy"}}}]
    spec: dict[str, Any] = {"network": {**host, "allowedFrom": sources}}
    name = await make_class(annotations=DEFAULT, **spec)
    await live.create("alice")
    await live.create("bob")
    for user in ("alice", "bob"):
        await live.until_ready(user)
        await live.until_condition("NetworkReady", "True", "Synced", user)
    await live.change({"spec": {"replicas": 0}}, "bob")
    await live.until_condition("Suspended", "True", "Requested", "bob")
    before = {user: await identities(live, user) for user in ("alice", "bob")}
    await live.delete_class(name)
    message = await live.until_condition("Ready", "False", "NoDefaultClass", "bob")
    assert f"class '{name}' served this UserStorage before" in message
    await live.until_condition("Stalled", "True", "NoDefaultClass")
    assert await live.condition("Ready") == ("True", "PodReady")
    await live.create("carol")  # who never had anything of a class gets the built-in one
    await live.until_ready("carol")
    assert await live.child(Kind.INGRESS, "carol") is None
    assert {user: await identities(live, user) for user in ("alice", "bob")} == before
    await live.create_class(name, annotations=DEFAULT, **spec)
    await live.until_ready("alice")
    await live.until_condition("Stalled", "False", "NotStalled", "bob")
    assert {user: await identities(live, user) for user in ("alice", "bob")} == before
    await live.until(lambda: live.child(Kind.INGRESS, "carol"))


async def identities(live: Live, user: str) -> list[Any]:
    """Return uid and spec of each child; they differ if it was replaced or changed."""
    children = [await live.child(kind, user) for kind in Kind if kind is not Kind.HTTP_ROUTE]
    return [child and (child["metadata"]["uid"], child["spec"]) for child in children]


@pytest.mark.parametrize("expose", ["ClusterIP", "Ingress"])
async def test_default_class_moved_in_two_steps_keeps_access_of_waiting_users(
    live: Live, operator: None, make_class: MakeClass, expose: str
) -> None:
    host = {"expose": "Ingress", "hostTemplate": "${slug}.${namespace}.example.org"}
    old = await make_class("old", annotations=DEFAULT, network=host)
    users = ("alice", "bob")
    for user in users:
        await live.create(user, className=None, podMetadata={"annotations": {LIFE: "slow-termination"}})
        await live.until_ready(user)
    access = {user: (await identities(live, user))[:1] + (await identities(live, user))[-1:] for user in users}
    network: dict[str, Any] = {"allowedFrom": [{"podSelector": {}}]}
    if expose == "Ingress":
        network |= {"expose": "Ingress", "hostTemplate": "${slug}.${namespace}.example.net"}
    new = await make_class("new", browser={"port": 9999}, network=network, rollout={"maxUnavailable": 1})
    await live.change_class(old, {"metadata": {"annotations": {ANNOTATION_DEFAULT_CLASS: None}}})
    for user in users:
        await live.until_condition("Stalled", "True", "NoDefaultClass", user)
    await live.change_class(new, {"metadata": {"annotations": DEFAULT}})

    async def waiting() -> list[str]:
        return [user for user in users if await live.condition("PodUpToDate", user) == ("False", "WaitingForRollout")]

    [waits] = await live.until(waiting)
    assert (await identities(live, waits))[:1] + (await identities(live, waits))[-1:] == access[waits]
    assert await live.condition("NetworkReady", waits) == ("True", "Synced")
    for user in users:
        await live.until_condition("PodUpToDate", "True", "UpToDate", user)
        await live.until_ready(user)
        policy = await live.child(Kind.NETWORK_POLICY, user)
        assert policy is not None
        assert policy["spec"]["ingress"][0]["from"] == [{"podSelector": {}}]
        ingress = await live.child(Kind.INGRESS, user)
        hosts = [rule["host"] for rule in ingress["spec"]["rules"]] if ingress is not None else []
        assert hosts == ([f"{user}.{live.namespace}.example.net"] if expose == "Ingress" else [])


async def test_spec_change_does_not_wait_for_class_rollout(live: Live, operator: None, make_class: MakeClass) -> None:
    name = await make_class(rollout={"maxUnavailable": 1})
    users = ("alice", "bob")
    for user in users:
        await live.create(user, className=name, podMetadata={"annotations": {LIFE: "slow-termination"}})
    for user in users:
        await live.until_ready(user)
    await live.change_class(name, {"spec": {"browser": {"port": 9999}}})

    async def waiting() -> list[str]:
        return [user for user in users if await live.condition("PodUpToDate", user) == ("False", "WaitingForRollout")]

    [waits] = await live.until(waiting)
    await live.change({"spec": {"storage": {"readOnly": True}}}, waits)

    async def is_deleted() -> bool:
        return "deletionTimestamp" in (await live.pod(waits))["metadata"]

    await live.until(is_deleted)


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


@pytest.mark.parametrize("strategy", ["Immediate", "WhenSuspended"])
async def test_class_change_opens_nothing_before_the_pod_is_replaced(
    live: Live, operator: None, make_class: MakeClass, strategy: str
) -> None:
    sources: list[Unstructured] = [{"podSelector": {}}]
    name = await make_class(
        browser={"flavor": "Dufs"},
        auth={"mode": "None", "acknowledgeUnauthenticated": True},
        network={"allowedFrom": sources},
        rollout={"paused": True},
    )
    await live.create(className=name, lifecycle={"updateStrategy": strategy})
    await live.until_ready()
    before = await identities(live, "alice")
    opened = {
        "expose": "Ingress",
        "hostTemplate": "${slug}.${namespace}.example.org",
        "allowedFrom": [{"namespaceSelector": {}}],
    }
    login = {"browser": {"flavor": "Copyparty"}, "auth": {"mode": "ProxyHeader", "acknowledgeUnauthenticated": None}}
    await live.change_class(name, {"spec": login | {"network": opened}})
    await live.until_condition("PodUpToDate", "False", "RolloutPaused" if strategy == "Immediate" else "UpdateDeferred")
    assert await identities(live, "alice") == before
    assert await live.condition("NetworkReady") == ("True", "Synced")
    # Nor does the class take the policy away.
    await live.change_class(name, {"spec": {"network": {"policy": "None"}}})
    await live.change({"spec": {"lifecycle": {"startTimeout": "9m"}}})  # one more reconcile

    async def is_observed() -> bool:
        raw = await live.get()
        return raw is not None and raw["status"]["observedGeneration"] == raw["metadata"]["generation"]

    await live.until(is_observed)
    assert await identities(live, "alice") == before
    await live.change_class(name, {"spec": {"network": {"policy": "Managed"}, "rollout": {"paused": False}}})
    if strategy == "WhenSuspended":
        await live.change({"spec": {"replicas": 0}})
        await live.until_condition("Suspended", "True", "Requested")
        await live.change({"spec": {"replicas": 1}})

    async def is_open() -> bool:
        policy, ingress = await live.child(Kind.NETWORK_POLICY), await live.child(Kind.INGRESS)
        return ingress is not None and policy is not None and policy["spec"]["ingress"][0]["from"] == opened["allowedFrom"]

    await live.until(is_open)
    await live.until_ready()
    assert (await live.pod())["metadata"]["uid"] != (before[3] or [""])[0]


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


async def test_class_is_valid_only_if_a_dry_run_of_its_pod_is_accepted(
    live: Live, api: Kubectl, operator_of_all: RecordedMetrics, make_class: MakeClass
) -> None:
    policy = f"deny-{live.namespace}"
    refused = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": policy},
        "spec": {
            "matchConstraints": {
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
            },
            "validations": [
                {
                    "expression": "object.metadata.?annotations[?'userstorage.dev/class'].orValue('') "
                    f"!= 'class-{live.namespace}' || object.spec.containers[0].ports[0].containerPort == 9999",
                    "message": "only port 9999",
                }
            ],
        },
    }
    spec = {"policyName": policy, "validationActions": ["Deny"]}
    binding = refused | {"kind": "ValidatingAdmissionPolicyBinding", "spec": spec}
    await asyncio.to_thread(api.apply, refused, binding)
    try:
        name = await make_class()

        async def is_refused() -> bool:  # once the API server knows the policy
            port = 8000 + int(time.monotonic()) % 100
            await live.change_class(name, {"spec": {"browser": {"port": port}}})
            await asyncio.sleep(1)
            return condition_of(await live.get_class(name), "Ready") == ("False", "DryRunRefused")

        await live.until(is_refused)
        raw = await live.get_class(name)
        [message] = [entry["message"] for entry in raw["status"]["conditions"] if entry["type"] == "Ready"]
        assert "only port 9999" in message
        await live.change_class(name, {"spec": {"browser": {"port": 9999}}})
        await until_class_condition(live, name, "Ready", "True", "Valid")
        before = operator_of_all.requests["create", "pods"]
        await live.create(className=name)
        await live.until_ready()
        await until_counts(live, name, users=1)
        assert operator_of_all.requests["create", "pods"] == before + 1  # no second dry run
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            await asyncio.to_thread(api.run, "delete", kind, policy)
    pods, _ = await live.client.list_all(Kind.POD.resource, "userstorage-system")
    assert [pod["metadata"]["name"] for pod in pods if "any-user" in pod["metadata"]["name"]] == []
