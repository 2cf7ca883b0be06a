"""From the schemas of both kinds: valid and invalid changes of each field, one after the other, half of them taken back. A user who has
been through them equals one that is created with the last spec, and the refusal of an invalid value names its field.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
import yaml

from support.inprocess import RecordedMetrics
from support.installation import ROOT
from support.live import ALLOWED, Live, condition_of
from support.memory_api import merged
from support.oracles.end_state import differences, end_state
from support.schemas import Samples, Transition, transitions
from userstorage_operator.api.errors import Refused
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

SEED = 20261128
USERS = tuple(f"walker-{number}" for number in range(8))
HALF = 0.5
HOST = {"expose": "Ingress", "hostTemplate": "${slug}.${namespace}.example.org"}
TOLERATION = {"key": "dedicated", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}
OF_SPEC: Samples = {
    "userID": (),  # immutable
    "className": (),  # the walk needs the class that allows the other fields
    "storage.size": ("2Gi", "3Gi", "4096Mi", 5368709120),
    "storage.claimName": (),  # immutable
    "storage.subPath": (),  # only of a claim of another owner
    "storage.acceptedClaimLoss": ("00000000-0000-4000-8000-000000000000", "ffffffff-ffff-4fff-8fff-ffffffffffff"),
    "lifecycle.startTimeout": ("1s", "1h30m", "24h"),
    "lifecycle.deletionTimeout": ("1s", "90s", "24h"),
    "scheduling.nodeSelector": ({"kubernetes.io/hostname": "fake-1"}, {"kubernetes.io/hostname": "fake-2"}),
    "scheduling.tolerations": ((), [TOLERATION], [{"key": "dedicated", "value": "files"}]),
    "podMetadata.labels": ({"team": "a"}, {"team": "b", "cost-center": "7"}, {}),
    "podMetadata.annotations": ({"example.org/note": "x" * 1000}, {"example.org/note": "\u00e9"}, {}),
}
OF_CLASS: Samples = {
    "browser.image": ("registry.example.org/copyparty:2", "copyparty@sha256:" + "0" * 64),
    "browser.command": ([], ["/bin/browser"]),
    "browser.args": ([], ["--verbose", "-x"]),
    "browser.env": ([], [{"name": "TZ", "value": "UTC"}], [{"name": "EMPTY"}]),
    "browser.healthPath": ("/health", "/a/${slug}"),
    "browser.basePath": ("/files/", "/u/${slug}/"),
    "browser.resources.requests": ({"cpu": "20m"}, {"cpu": 1, "memory": "64Mi"}),
    "browser.resources.limits": ({"memory": "1Gi"}, {"cpu": "2", "memory": "2Gi"}),
    "storage.storageClassName": (),  # immutable
    "storage.directoryImage": ("busybox:2",),
    "storage.accessModes": (),  # immutable
    "storage.defaultSize": ("2Gi", 2147483648),
    "storage.maxSize": ("1Ti", "100Gi"),
    "auth.headerName": ("Remote-User", "X-Auth-Request-User"),
    "network.hostTemplate": ("${name}.example.com", "${slug}-${namespace}.example.org"),
    "network.ingressClassName": ("nginx", "traefik.example"),
    "network.gateway.name": ("public",),
    "network.gateway.namespace": ("gateways",),
    "network.gateway.sectionName": ("https",),
    "network.tlsSecretName": ("wildcard", "${slug}-tls"),
    "network.annotations": ({}, {"example.org/timeout": "60"}),
    "network.allowedFrom": ([], [{"ipBlock": {"cidr": "192.0.2.0/24"}}], [{"podSelector": {"matchLabels": {"app": "proxy"}}}]),
    "scheduling.allowed.nodeSelector": (["disk", "zone"],),
    "scheduling.allowed.tolerations": ([], ["dedicated"]),
    "scheduling.nodeSelector": ({}, {"kubernetes.io/hostname": "fake-3"}),
    "scheduling.tolerations": ([], [TOLERATION]),
    "podMetadata.labels": ({"team": "platform"}, {}),
    "podMetadata.annotations": ({"example.org/owner": "storage"}, {}),
    "podMetadata.allowed": ([*ALLOWED["allowed"], "more.example.org/"],),
    "rollout.maxUnavailable": (1, "1%", "100%"),
}
NEEDS: dict[tuple[str, Any], Unstructured] = {
    ("browser.flavor", "Dufs"): {"auth": {"mode": "None", "acknowledgeUnauthenticated": True}},
    ("browser.flavor", "Custom"): {
        "browser": {"image": "registry.example.org/own:1"},
        "auth": {"mode": "None", "acknowledgeUnauthenticated": True},
    },
    ("auth.mode", "None"): {"auth": {"acknowledgeUnauthenticated": True}},
    ("network.expose", "Ingress"): {"network": HOST | {"expose": "Ingress"}},
    ("network.expose", "Gateway"): {"network": HOST | {"expose": "Gateway", "gateway": {"name": "public"}}},
    ("network.gateway.namespace", "gateways"): {"network": {"gateway": {"name": "public"}}},
    ("network.gateway.sectionName", "https"): {"network": {"gateway": {"name": "public"}}},
}
"""What a valid value of a class needs besides."""
SCHEDULING = {"allowed": {"nodeSelector": ["kubernetes.io/hostname"], "tolerations": ["dedicated"]}}
TAKEN_BACK = {
    *("replicas", "lifecycle.updateStrategy", "rollout.paused", "limits.maxPerNamespace"),
    *("storage.defaultSize", "security.runAsUser", "security.runAsGroup", "security.fsGroup"),
}
"""With such a value, a new user has no pod, or differs from one whose pod or claim was there before."""
KEPT = {"storage.size"}
"""Does not shrink again."""


def of_schema(file: str, samples: Samples) -> list[Transition]:
    crd = yaml.safe_load((ROOT / "deploy" / "crds" / f"userstorage.dev_{file}.yaml").read_text())
    [version] = crd["spec"]["versions"]
    return list(transitions(version["schema"]["openAPIV3Schema"]["properties"]["spec"], samples))


def shares(these: Sequence[Transition]) -> list[list[Transition]]:
    """Return the transitions of each user: a field stays with one of them, so that its values follow each other."""
    fields = list(dict.fromkeys(one.path for one in these))
    return [[one for one in these if fields.index(one.path) % len(USERS) == number] for number in range(len(USERS))]


class Walk:
    """Takes one object through transitions."""

    def __init__(self, live: Live, resource: Resource, name: str, settle: Callable[[], Awaitable[None]]) -> None:
        """`settle()` waits until the operator has done what a change of the object asks for."""
        self._live = live
        self._resource = resource
        self._name = name
        self._settle = settle
        self._random = random.Random(f"{SEED} {name}")  # noqa: S311  # repeatable
        self.changed = 0
        """Number of changes of the spec, back and forth."""
        self.refused = 0

    async def make(self, these: Sequence[Transition]) -> None:
        """Make the transitions, and take back half of the valid ones."""
        for one in these:
            before = await self._spec()
            if not one.valid:
                await self._refuse(one, before)
                continue
            needs = NEEDS.get((one.path, one.value), {}) if isinstance(one.value, str) else {}
            await self._change(merged(merged(before, needs), one.patch))
            if one.path in TAKEN_BACK or needs or (one.path not in KEPT and self._random.random() < HALF):
                await self._change(before)

    async def _spec(self) -> Unstructured:
        found: Unstructured = (await self._live.client.get(self._resource, self._live.namespace, self._name))["spec"]
        return found

    async def _change(self, spec: Unstructured) -> None:
        before = await self._spec()
        await self._live.replace(self._resource, self._name, spec)
        if await self._spec() != before:
            self.changed += 1
            await self._settle()

    async def _refuse(self, one: Transition, before: Unstructured) -> None:
        with pytest.raises(Refused) as refused:
            await self._live.replace(self._resource, self._name, merged(before, one.patch))
        assert f"spec.{one.path}" in refused.value.message, one
        assert await self._spec() == before
        self.refused += 1


async def until_settled(live: Live, name: str) -> None:
    """Wait until the operator has carried out the spec of the user, suspended or not."""

    async def is_settled() -> bool:
        found = await live.get(name)
        assert found is not None
        current = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
        return current and condition_of(found, "Reconciling")[0] == "False"

    await live.until(is_settled)


async def assert_as_new(live: Live, users: Sequence[str]) -> None:
    """Assert that each user is served and equals one that is created now with its spec."""
    for user in users:
        await live.until_ready(user)
        assert await live.condition("Stalled", user) == ("False", "NotStalled")
    specs = {user: (await live.client.get(USER_STORAGES, live.namespace, user))["spec"] for user in users}
    walked = await end_state(live, generations=False)
    for user in users:
        await live.delete(USER_STORAGES, user)
    for user in users:
        await live.until_gone(user)
        if await live.child(Kind.PVC, user) is not None:
            await live.delete(Kind.PVC.resource, f"user-storage-{user}")
            await live.until(partial(_is_gone, live, user))
    for user, spec in specs.items():
        body = {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": user}, "spec": spec}
        await live.client.create(USER_STORAGES, live.namespace, body)
    for user in users:
        await live.until_ready(user)
        await live.until(partial(_is_bound, live, user))
    found = differences(walked, await end_state(live, generations=False))
    assert not found, "\n".join(found)


async def walk_all(live: Live, walks: Sequence[tuple[Walk, Sequence[Transition]]], *, changes: int, refusals: int) -> None:
    """Make all walks at the same time, with at least so many changes and refusals, and assert that each user equals a new one."""
    await asyncio.gather(*(live.until_ready(name) for name in USERS))
    await asyncio.gather(*(walk.make(share) for walk, share in walks))
    assert sum(walk.changed for walk, _ in walks) >= changes, [walk.changed for walk, _ in walks]
    assert sum(walk.refused for walk, _ in walks) >= refusals, [walk.refused for walk, _ in walks]
    await assert_as_new(live, USERS)


async def _is_bound(live: Live, user: str) -> bool:
    found = await live.get(user)
    return found is not None and found["status"]["storage"].get("claimPhase") == "Bound"


async def _is_gone(live: Live, user: str) -> bool:
    return await live.child(Kind.PVC, user) is None


async def test_user_after_changes_of_each_field_equals_a_new_one(live: Live, operator: RecordedMetrics) -> None:
    walks = [
        (Walk(live, USER_STORAGES, name, partial(until_settled, live, name)), share)
        for name, share in zip(USERS, shares(of_schema("userstorages", OF_SPEC)), strict=True)
    ]
    cls = f"class-{live.namespace}"
    await live.create_class(cls, scheduling=SCHEDULING)
    for name in USERS:
        await live.create(name, className=cls, storage={"size": "1Gi"})
    await walk_all(live, walks, changes=30, refusals=50)
    assert operator.internal_errors() == 0
    await live.delete_class(cls)


async def test_user_after_changes_of_each_field_of_its_class_equals_a_new_one(live: Live, operator: RecordedMetrics) -> None:
    classes = [f"class-{name}-{live.namespace}" for name in USERS]
    walks = []
    for name, cls, share in zip(USERS, classes, shares(of_schema("userstorageclasses", OF_CLASS)), strict=True):
        await live.create_class(cls, scheduling=SCHEDULING, browser={"flavor": "FileBrowser"})  # knows all permissions
        await live.create(name, className=cls)
        walks.append((Walk(live, USER_STORAGE_CLASSES, cls, partial(_until_carried_out, live, name)), share))
    await walk_all(live, walks, changes=100, refusals=140)
    assert operator.internal_errors() == 0
    for cls in classes:
        await live.delete_class(cls)


async def _until_carried_out(live: Live, name: str) -> None:
    """Wait until the user is settled after a change of its class: a change of its own spec shows that the operator has looked."""
    found = await live.get(name)
    assert found is not None
    other = {"10m": "11m", "11m": "10m"}[found["spec"]["lifecycle"]["deletionTimeout"]]
    await live.change({"spec": {"lifecycle": {"deletionTimeout": other}}}, name)
    await until_settled(live, name)
