"""The environment for bad inputs: a running operator, healthy users, and foreign objects that must not change."""

import contextlib
import copy
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.inprocess import RecordedMetrics, serving
from support.kubectl import Kubectl
from support.live import Live
from support.tls import until_connections_closed
from userstorage_operator.api.errors import OperatorError, Refused
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.config import Config
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.runtime.metrics import Metrics

FOREIGN_POD_SPEC: Unstructured = {
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "app",
            "image": "example.org/app:1",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
FOREIGN_SPECS: dict[Kind, Unstructured] = {
    Kind.POD: FOREIGN_POD_SPEC,
    Kind.SERVICE: {"ports": [{"port": 1}]},
    Kind.PVC: {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
FOREIGN_NAME = "foreign"
_BYSTANDERS = ("user-storage-canary", "user-storage-victim", FOREIGN_NAME)


@dataclass(frozen=True, slots=True)
class Arena:
    """The namespace of the inputs, a second served namespace, and a namespace that the operator does not serve."""

    live: Live
    second: Live
    unserved: Live
    metrics: RecordedMetrics
    api: Kubectl

    async def create(self, name: str, meta: Unstructured | None = None, live: Live | None = None, **spec: Any) -> Unstructured:
        """Create a UserStorage with the given metadata; the object's name is the user id."""
        target = live or self.live
        body = {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": name} | (meta or {}),
            "spec": {"userID": name} | spec,
        }
        return await target.client.create(USER_STORAGES, target.namespace, body)

    async def create_class(self, name: str, spec: Any, **fields: Any) -> str:
        """Create a class and return its name; the arena deletes the class at its end."""
        name = f"{name}-{self.live.namespace}"
        body = {"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": {"name": name}, "spec": spec}
        await self.live.client.create(USER_STORAGE_CLASSES, "", body | fields)
        return name

    async def expect_refusal(self, resource: Resource, manifest: Unstructured, message: str) -> None:
        """Assert that the API server refuses to create the object, with a message that contains `message`."""
        with pytest.raises(Refused) as refused:
            await self.live.client.create(resource, self.live.namespace, manifest)
        assert message in refused.value.message

    async def bystander_state(self) -> Unstructured:
        """Return the state of the objects that no bad input may change."""
        state: Unstructured = {}
        for kind in (kind for kind in Kind if not kind.resource.optional):
            for child in (await self.live.client.list_all(kind.resource, self.live.namespace))[0]:
                if child["metadata"]["name"] in _BYSTANDERS:
                    meta = {
                        key: child["metadata"].get(key) for key in ("name", "uid", "labels", "annotations", "ownerReferences")
                    }
                    state[f"{kind.name} {meta['name']}"] = {"metadata": meta, "spec": child["spec"]}
        for name in ("canary", "victim"):
            raw = await self.live.get(name)
            assert raw is not None
            state[name] = (raw["metadata"]["uid"], raw["spec"], await self.live.condition("Ready", name))
        return copy.deepcopy(state)

    async def comparable_pod(self, user: str) -> str:
        """Return a user's pod as JSON, without the fields that differ between users.

        The result must not depend on unknown fields in a tenant's spec.
        """
        pod = await self.live.pod(user)
        meta = {key: pod["metadata"][key] for key in ("labels", "annotations")}
        meta["labels"] = meta["labels"] | {"userstorage.dev/uid": ""}
        hashes = {"userstorage.dev/pod-hash": "", "userstorage.dev/spec-hash": ""}  # both cover the claim name
        meta["annotations"] = meta["annotations"] | hashes
        spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
        return json.dumps([meta, spec], sort_keys=True).replace(user, "user")


@contextlib.asynccontextmanager
async def arena(api: Kubectl) -> AsyncIterator[Arena]:
    """Create an arena with three new namespaces."""
    names = [f"test-{uuid.uuid4().hex[:8]}" for _ in range(3)]
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}} for name in names))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KUBECONFIG", str(api.kubeconfig))
        client = KubeClient(await login(), Metrics("test"))
        lives = first, second, unserved = [Live(client, name) for name in names]
        with serving(Config(namespaces=tuple(names[:2]), http_port=0, sweep_period=3600)) as metrics:
            created = Arena(first, second, unserved, metrics, api)
            await _settle(created)
            yield created
        for live in lives:
            await live.release_all()
        for raw in (await client.list_all(USER_STORAGE_CLASSES, None))[0]:
            if raw["metadata"]["name"].endswith(names[0]):
                await client.delete(USER_STORAGE_CLASSES, "", raw["metadata"]["name"], raw["metadata"]["uid"], 0, "Background")
        await client.close()
        await until_connections_closed()
    api.delete("namespace", *names)


async def _settle(arena: Arena) -> None:
    live = arena.live
    for namespace in (live, arena.second, arena.unserved):
        await namespace.until_pods_are_admitted()
    await arena.create("canary")
    await arena.create("victim", storage={"size": "2Gi"})
    for kind, spec in FOREIGN_SPECS.items():
        await live.create_object(kind, FOREIGN_NAME, spec)
    await live.until_ready("canary")
    await live.until_ready("victim")

    async def is_settled() -> bool:
        try:
            pod = await live.client.get(Kind.POD.resource, live.namespace, FOREIGN_NAME)
            claim = await live.client.get(Kind.PVC.resource, live.namespace, FOREIGN_NAME)
        except OperatorError:
            return False
        return "nodeName" in pod["spec"] and claim.get("status", {}).get("phase") == "Bound"

    await live.until(is_settled)
