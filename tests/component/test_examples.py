"""Every file in examples/ is accepted by the API server as it is, and its users become Ready."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kubectl import Kubectl
from support.live import Live
from support.manifests import Object, to_json

pytestmark = [pytest.mark.kwok]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLUSTER_SCOPED = ("UserStorageClass", "PersistentVolume")
SYNCED = ("True", "Synced")
SCENARIOS = [
    (["alice.yaml"], ["alice"], SYNCED),
    (["copyparty-class.yaml", "alice.yaml"], ["alice"], SYNCED),
    (["dufs-class.yaml", "alice.yaml"], ["alice"], SYNCED),
    (["team-class.yaml", "team.yaml"], ["bob"], SYNCED),
    (["userstorageclass.yaml", "userstorage.yaml"], ["alice"], SYNCED),
    (["userstorageclass-one-host.yaml"], ["one-host-for-all"], SYNCED),
    (["userstorageclass-one-gateway.yaml"], ["one-gateway-for-all"], ("False", "GatewayAPIMissing")),
    (["shared-claim.yaml"], ["alice", "bob"], SYNCED),
]
"""Files, users, and NetworkReady of the users. For files with a class only, the test creates a user of that name."""
WITH_GATEWAY_API = "gateway.yaml"
"""In test_gateway.py, which installs the Gateway API."""
OF_GATEWAYS = "gateways"
"""Run by tests/e2e/test_gateways.py."""


@pytest.fixture
async def cluster_scoped(api: Kubectl) -> AsyncIterator[list[str]]:
    """The cluster-scoped objects that a test applies, as kind/name; they are deleted after it."""
    applied: list[str] = []
    yield applied
    if applied:
        await asyncio.to_thread(api.run, "delete", *applied, "--wait=false", "--ignore-not-found")


@pytest.mark.parametrize(
    ("files", "users", "network"), SCENARIOS, ids=lambda value: value[0] if isinstance(value, list) else ""
)
async def test_users_of_an_example_become_ready(
    live: Live,
    api: Kubectl,
    operator: None,
    cluster_scoped: list[str],
    files: list[str],
    users: list[str],
    network: tuple[str, str],
) -> None:
    for name in files:
        objects = list(yaml.safe_load_all((EXAMPLES / name).read_text()))
        cluster_scoped += [f"{raw['kind']}/{raw['metadata']['name']}" for raw in objects if raw["kind"] in CLUSTER_SCOPED]
        await asyncio.to_thread(api.run, "apply", "--validate=strict", "-n", live.namespace, "-f", str(EXAMPLES / name))
    for user in users:
        if await live.get(user) is None:
            await live.create(user, className=user)
        await live.until_ready(user)
        await live.until_condition("NetworkReady", *network, user)


def test_no_example_is_left_out() -> None:
    files = {name for names, _, _ in SCENARIOS for name in names}
    assert {path.name for path in EXAMPLES.iterdir()} == files | {WITH_GATEWAY_API, OF_GATEWAYS}


def of_gateways(*kinds: str) -> list[Any]:
    """Return the objects of these kinds in the examples for gateways, as parameters."""
    read = [yaml.safe_load_all(path.read_text()) for path in sorted((EXAMPLES / OF_GATEWAYS).glob("*.yaml"))]
    found = [manifest for documents in read for manifest in documents if manifest.get("kind") in kinds]
    return [pytest.param(manifest, id=f"{manifest['kind']}-{manifest['metadata']['name']}") for manifest in found]


@pytest.mark.parametrize("manifest", of_gateways("UserStorageClass"))
def test_classes_of_gateways_are_admitted(api: Kubectl, manifest: Object) -> None:
    api.run("create", "--dry-run=server", "--validate=strict", "-f", "-", input=to_json(manifest))


@pytest.mark.parametrize("manifest", of_gateways("UserStorage", "Deployment", "Service"))
def test_objects_of_gateways_are_admitted(api: Kubectl, namespace: str, manifest: Object) -> None:
    moved = {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}
    api.run("create", "--dry-run=server", "--validate=strict", "-f", "-", input=to_json(moved))
