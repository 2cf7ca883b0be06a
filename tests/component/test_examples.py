"""Every file in examples/ is accepted by the API server as it is, and its users become Ready."""

import asyncio
import contextlib
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.kubectl import Kubectl, eventually
from support.live import Live
from support.manifests import Object, to_json
from support.operator_account import ACCOUNT, SYSTEM
from userstorage_operator.api.resources import Kind

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
QUOTA = "quota.yaml"
KEDA = "keda-nights-off.yaml"
VELERO = "velero.yaml"
POLICY = "user-id-policy.yaml"
README = "README.md"
MODULES = Path(__file__).parent / "go"
"""Pins the Go modules of KEDA and Velero, which have their CRDs."""


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
    assert {path.name for path in EXAMPLES.iterdir()} == files | {
        WITH_GATEWAY_API,
        OF_GATEWAYS,
        QUOTA,
        KEDA,
        VELERO,
        POLICY,
        README,
    }


def test_each_example_is_listed() -> None:
    text = (EXAMPLES / README).read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.name != README and f"({path.name}" not in text] == []


def install_definitions(api: Kubectl, name: str, module: str, *files: str) -> list[str]:
    """Install CRDs that are files of a Go module, wait until they are served, and return them as `crd/…`."""
    command = ["go", "mod", "download", "-json", module]
    done = subprocess.run(command, cwd=MODULES / name, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"Go could not fetch {module}: {done.stdout or done.stderr}")
    paths = [Path(json.loads(done.stdout)["Dir"]) / file for file in files]
    definitions = [f"crd/{yaml.safe_load(path.read_text())['metadata']['name']}" for path in paths]
    for path in paths:
        api.run("apply", "--server-side", "-f", str(path))
    api.wait_established(*definitions)
    return definitions


async def test_quota_counts_users_and_claims(live: Live, api: Kubectl, operator: None) -> None:
    def used() -> Object:
        found: Object = (api.get("resourcequota", "user-storages", live.namespace) or {}).get("status", {}).get("used", {})
        return found

    def is_counted() -> bool:
        # A quota that is older than what the controller knows of our CRDs is counted minutes later: a new one at once.
        api.run("delete", "-n", live.namespace, "--ignore-not-found", "-f", str(EXAMPLES / QUOTA))
        api.run("apply", "--validate=strict", "-n", live.namespace, "-f", str(EXAMPLES / QUOTA))
        with contextlib.suppress(AssertionError):
            eventually(lambda: used().keys() == hard.keys(), within=10)
        return bool(used().keys() == hard.keys())

    def applied() -> bool:
        return api.run("apply", "-n", live.namespace, "-f", str(EXAMPLES / "alice.yaml"), check=False).returncode == 0

    hard = yaml.safe_load((EXAMPLES / QUOTA).read_text())["spec"]["hard"]
    # Until it has seen the quota counted, the API server refuses every object that the quota limits: the example says so.
    await asyncio.to_thread(eventually, is_counted)
    await asyncio.to_thread(eventually, applied)
    await live.until_ready()
    counted, limits = ("count/userstorages.userstorage.dev", "persistentvolumeclaims", "pods"), itertools.count(100)

    def are_counted() -> bool:
        with contextlib.suppress(AssertionError):
            eventually(lambda: [used()[name] for name in counted] == ["1", "1", "1"], within=10)
            return True
        # What was counted before the controller's watches knew the objects stays for minutes, unless a limit changes.
        patch = json.dumps({"spec": {"hard": {"secrets": str(next(limits))}}})
        api.run("patch", "resourcequota", "user-storages", "-n", live.namespace, "--type=merge", "-p", patch)
        return False

    await asyncio.to_thread(eventually, are_counted)


async def test_keda_stops_and_starts_a_user(live: Live, api: Kubectl, operator: None, cluster_scoped: list[str]) -> None:
    """KEDA itself does not run: the test writes /scale of the target with both replica counts, as KEDA does."""
    file = "config/crd/bases/keda.sh_scaledobjects.yaml"
    cluster_scoped += await asyncio.to_thread(install_definitions, api, "keda", "github.com/kedacore/keda/v2", file)
    for name in ("alice.yaml", KEDA):
        await asyncio.to_thread(api.run, "apply", "--validate=strict", "-n", live.namespace, "-f", str(EXAMPLES / name))
    await live.until_ready()
    spec = yaml.safe_load((EXAMPLES / KEDA).read_text())["spec"]
    target = spec["scaleTargetRef"]
    group, version = target["apiVersion"].split("/")
    scale = ["scale", "-n", live.namespace, f"{target['kind']}.{version}.{group}/{target['name']}"]
    await asyncio.to_thread(api.run, *scale, f"--replicas={spec['minReplicaCount']}")
    await live.until_condition("Suspended", "True", "Requested")
    await asyncio.to_thread(api.run, *scale, f"--replicas={spec['maxReplicaCount']}")
    await live.until_ready()


def test_velero_objects_are_valid_and_leave_out_what_the_operator_creates(api: Kubectl) -> None:
    folder = "config/crd/v1/bases"
    files = [f"{folder}/velero.io_{kind}.yaml" for kind in ("schedules", "restores")]
    definitions = install_definitions(api, "velero", "github.com/vmware-tanzu/velero", *files)
    try:
        api.run("create", "namespace", "velero")
        api.run("create", "--dry-run=server", "--validate=strict", "-f", str(EXAMPLES / VELERO))
    finally:
        api.run("delete", *definitions, "namespace/velero", "--wait=false", "--ignore-not-found")
    [restore] = [raw for raw in yaml.safe_load_all((EXAMPLES / VELERO).read_text()) if raw["kind"] == "Restore"]
    created = [kind.resource for kind in Kind if kind is not Kind.PVC]
    assert set(restore["spec"]["excludedResources"]) == {
        ".".join(filter(None, (resource.plural, resource.group))) for resource in created
    }


NOT_BOB = "spec.userID: only your own name is allowed: bob"
CREATE = ("create", "-f", "-")
TRY = (*CREATE, "--dry-run=server")


class Tenants:
    """Users of a namespace to which examples/user-id-policy.yaml applies, with the roles that it names."""

    def __init__(self, api: Kubectl, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        api.run("label", "namespace", namespace, "example.org/self-service=true")
        users = [f"--user={name}" for name in ("alice", "bob", "oidc:alice")]
        for role in ("userstorage-view", "userstorage-edit"):
            api.run("create", "rolebinding", f"tenants-{role}", "-n", namespace, f"--clusterrole={role}", *users)
        api.run("apply", "--validate=strict", "-f", str(EXAMPLES / POLICY))
        # A new policy takes effect in the API server with a delay.
        eventually(lambda: NOT_BOB in self.answer("bob", *TRY, given=storage_of("alice")))

    def answer(self, user: str, *command: str, given: Object | None = None, groups: tuple[str, ...] = ()) -> str:
        """Run kubectl as that user and return what the API server answers."""
        login = [f"--as={user}", *(f"--as-group={group}" for group in groups), "-n", self._namespace]
        done = self._api.run(*login, *command, input=to_json(given) if given else None, check=False)
        return done.stdout + done.stderr


def storage_of(user: str, name: str = "", **claim: str) -> Object:
    """Return a UserStorage, named like its user unless `name` is given, with `claim` as its spec.storage."""
    spec = {"userID": user, **({"storage": claim} if claim else {})}
    return {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": name or user}, "spec": spec}


def patch(name: str, change: Object) -> tuple[str, ...]:
    return "patch", "us", name, "--type=merge", "--patch", json.dumps(change)


@pytest.fixture
def tenants(api: Kubectl, namespace: str) -> Iterator[Tenants]:
    applied = [f"{raw['kind']}/{raw['metadata']['name']}" for raw in yaml.safe_load_all((EXAMPLES / POLICY).read_text())]
    try:
        yield Tenants(api, namespace)
    finally:
        api.run("delete", *applied, "--wait=false", "--ignore-not-found")


async def test_policy_allows_a_tenant_only_their_own_name(live: Live, operator: None, tenants: Tenants) -> None:
    def check() -> None:
        assert "created" in tenants.answer("alice", *CREATE, given=storage_of("alice"))
        assert NOT_BOB in tenants.answer("bob", *patch("alice", {"spec": {"replicas": 0}}))
        assert NOT_BOB in tenants.answer("bob", "delete", "us", "alice")
        for user in ("alice", "bob"):
            assert "set spec.replicas" in tenants.answer(user, "scale", "us", "alice", "--replicas=0")
        assert "patched" in tenants.answer("alice", *patch("alice", {"spec": {"lifecycle": {"startTimeout": "9m"}}}))
        groups = (f"system:serviceaccounts:{SYSTEM}", "system:serviceaccounts")
        finalizer = patch("alice", {"metadata": {"finalizers": ["example.org/test"]}})
        assert "patched" in tenants.answer(ACCOUNT, *finalizer, "--dry-run=server", groups=groups)

    await asyncio.to_thread(check)
    await live.until_ready()
    assert "deleted" in await asyncio.to_thread(tenants.answer, "alice", "delete", "us", "alice")


def test_policy_allows_a_tenant_only_their_own_directory(tenants: Tenants) -> None:
    refused = "only your own directory is allowed: ${slug}"
    for claim in ({"subPath": "bob"}, {"subPath": "${slug}/bob"}, {"subPath": "bob/${slug}"}, {}):
        assert refused in tenants.answer("alice", *TRY, given=storage_of("alice", claimName="homes", **claim))
    assert "created" in tenants.answer("alice", *CREATE, given=storage_of("alice", claimName="homes", subPath="${slug}"))
    for other in ("bob", None):
        assert refused in tenants.answer("alice", *patch("alice", {"spec": {"storage": {"subPath": other}}}))
    # A second UserStorage without a claim gets none by a change.
    assert "created" in tenants.answer("alice", *CREATE, given=storage_of("alice", name="second"))
    assert "patched" not in tenants.answer(
        "alice", *patch("second", {"spec": {"storage": {"claimName": "homes", "subPath": "bob"}}})
    )
    assert "patched" in tenants.answer("alice", *patch("alice", {"spec": {"storage": {"readOnly": True}}}))
    assert "deleted" in tenants.answer("alice", "delete", "us", "alice", "second")


def test_policy_compares_the_name_without_the_prefix_of_the_cluster(api: Kubectl, tenants: Tenants) -> None:
    text = (EXAMPLES / POLICY).read_text()
    changed = text.replace("""expression: "''\"""", """expression: "'oidc:'\"""")
    assert changed != text
    api.run("apply", "--validate=strict", "-f", "-", input=changed)
    eventually(lambda: "created" in tenants.answer("oidc:alice", *TRY, given=storage_of("alice")))
    for user in ("alice", "bob", "oidc:alice"):
        assert "created" not in tenants.answer(user, *TRY, given=storage_of("bob"))


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
