"""Bad inputs that the API server does not simply refuse: each is reported, changes nothing else, and can be corrected."""

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from support import identities
from support.arena import FOREIGN_SPECS, Arena
from support.kubectl import PATIENCE
from support.live import ALLOWED, HEALED, LIFE, QUOTAS, Live
from support.manifests import storage, to_json
from userstorage_operator.api.errors import ClusterError, Refused
from userstorage_operator.api.names import slug
from userstorage_operator.api.quantities import parse_quantity
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured

STORAGE_CLASSES = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
NEVER_READY = {"annotations": {LIFE: "never-ready"}}
SHAREABLE = {"metadata": {"labels": {"userstorage.dev/shareable": "true"}}}
FILES = FOREIGN_SPECS[Kind.PVC]


async def email_address(arena: Arena, number: int) -> None:
    await arena.create(f"row{number}", userID="a.b+c@x.org")
    await arena.live.until_ready(f"row{number}")
    pod = await arena.live.pod(slug("a.b+c@x.org"))
    assert pod["metadata"]["labels"]["userId"] == slug("a.b+c@x.org")


async def identities_of_row(arena: Arena, number: int) -> None:
    """Check that the children have the raw user id as an annotation, and the slug in their names and labels."""
    for index, user_id in enumerate(identities.ROWS[number]):
        name = f"row{number}-{index}"
        await arena.create(name, userID=user_id)
        status = (await arena.live.until_ready(name))["status"]
        assert status["slug"] == slug(user_id)
        for kind in (Kind.POD, Kind.PVC, Kind.SERVICE, Kind.NETWORK_POLICY):
            child = await arena.live.child(kind, slug(user_id))
            assert child is not None
            assert child["metadata"]["annotations"].pop("userstorage.dev/user-id") == user_id
            assert child["metadata"]["labels"]["userId"] == slug(user_id)


async def object_names(arena: Arena, number: int) -> None:
    for index, name in enumerate(["a" * 253, "row14.example.org", "7-of-nine"]):
        await arena.create(name, userID=f"row{number}-{index}")
        await arena.live.until_ready(name)
        await arena.live.pod(f"row{number}-{index}")


async def generated_names(arena: Arena, number: int) -> None:
    """Create a hundred objects in a namespace that is not served, since their pods would prove nothing."""

    async def create(index: int) -> str:
        body = storage("", {"userID": f"user-{index}"})
        body["metadata"] = {"generateName": "user-"}
        created = await arena.unserved.client.create(USER_STORAGES, arena.unserved.namespace, body)
        name: str = created["metadata"]["name"]
        return name

    names = await asyncio.gather(*(create(index) for index in range(100)))
    assert len(set(names)) == 100


async def size_in_bytes(arena: Arena, number: int) -> None:
    for name, size in ((f"row{number}-int", 2**30), (f"row{number}-text", str(2**30))):
        await arena.create(name, storage={"size": size})
        await arena.live.until_ready(name)
        assert parse_quantity(_requested(await arena.live.child(Kind.PVC, name))) == 2**30


async def cannot_grow(arena: Arena, number: int) -> None:
    name = f"row{number}"
    await arena.create(name, storage={"size": "1Gi"})
    before = await arena.live.until_ready(name)
    await _allow_expansion(arena, allowed=False)
    try:
        await arena.live.change({"spec": {"storage": {"size": "2Gi"}}}, name)
        message = await arena.live.until_condition("StorageReady", "False", "ExpansionNotSupported", name)
        assert f"user-storage-{name}" in message
        assert await arena.live.condition("Ready", name) == ("True", "PodReady")
        assert _requested(await arena.live.child(Kind.PVC, name)) == "1Gi"
    finally:
        await _allow_expansion(arena, allowed=True)
    await arena.live.change({"spec": {"lifecycle": {"startTimeout": "6m"}}}, name)  # reconcile before the backoff ends
    after = await arena.live.until_ready(name)
    assert _requested(await arena.live.child(Kind.PVC, name)) == "2Gi"
    assert after["status"]["podUID"] == before["status"]["podUID"]


async def fractional_size(arena: Arena, number: int) -> None:
    """Check that a quantity which the API server normalizes does not look like a lasting difference."""
    for index, size in enumerate(["1.5Gi", "0.5Gi"]):
        await arena.create(f"row{number}-{index}", storage={"size": size})
        await arena.live.until_ready(f"row{number}-{index}")
    await _expect_idle(arena)


async def claim_in_use(arena: Arena, number: int) -> None:
    owner, name = f"row{number}-owner", f"row{number}"
    await arena.create(owner)
    pod = (await arena.live.until_ready(owner))["status"]["podUID"]
    await arena.live.change_child(Kind.PVC, SHAREABLE, owner)
    await arena.create(name, storage={"claimName": f"user-storage-{owner}"})
    assert "claimName" in await arena.live.until_condition("StorageReady", "False", "ClaimInUse", name)
    assert await arena.live.child(Kind.POD, name) is None
    assert (await arena.live.until_ready(owner))["status"]["podUID"] == pod
    await arena.live.delete(USER_STORAGES, name)  # claimName is immutable
    await arena.live.until_gone(name)
    await arena.create(name)
    await arena.live.until_ready(name)


async def claim_not_allowed(arena: Arena, number: int) -> None:
    name = f"row{number}"
    before = await arena.live.create_object(Kind.PVC, "row33-files", FILES)
    await arena.create(name, storage={"claimName": "row33-files"})
    assert "spec.storage.claimName" in await arena.live.until_condition("StorageReady", "False", "ClaimNotAllowed", name)
    assert await arena.live.child(Kind.POD, name) is None
    await arena.live.client.merge_patch(Kind.PVC.resource, arena.live.namespace, "row33-files", SHAREABLE)
    await arena.live.until_ready(name)
    after = await arena.live.client.get(Kind.PVC.resource, arena.live.namespace, "row33-files")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert "annotations" not in after["metadata"]


async def same_user(arena: Arena, number: int) -> None:
    first, second = f"row{number}", f"row{number}-again"
    await arena.create(first)
    before = await arena.live.until_ready(first)
    await arena.create(second, userID=first)
    assert "spec.userID" in await arena.live.until_condition("Ready", "False", "UserIDConflict", second)
    await arena.live.delete(USER_STORAGES, second)  # userID is immutable
    await arena.live.until_gone(second)
    await arena.create(second)
    await arena.live.until_ready(second)
    assert (await arena.live.until_ready(first))["status"]["podUID"] == before["status"]["podUID"]


async def lookalikes(arena: Arena, number: int) -> None:
    users = ["row35-a", "row35_a", "ROW35-A", "Row35-a", "row35.a"]
    for index, user in enumerate(users):
        await arena.create(f"row{number}-{index}", userID=user)
    statuses = [(await arena.live.until_ready(f"row{number}-{index}"))["status"] for index in range(len(users))]
    assert len({status["podName"] for status in statuses}) == len(users)
    assert len({status["storage"]["claimName"] for status in statuses}) == len(users)
    assert len({status["serviceName"] for status in statuses}) == len(users)


async def names_taken(arena: Arena, number: int) -> None:
    foreign = {
        kind: await arena.live.create_object(kind, f"user-storage-row{number}-{kind.field}", spec)
        for kind, spec in FOREIGN_SPECS.items()
    }
    for kind in FOREIGN_SPECS:
        await arena.create(f"row{number}-{kind.field}")
    for kind, before in foreign.items():
        name = f"row{number}-{kind.field}"
        assert f"user-storage-{name}" in await arena.live.until_condition("Ready", "False", "NameConflict", name)
        now = await arena.live.child(kind, name)
        assert now is not None
        same = ("uid", "labels", "annotations", "ownerReferences", "finalizers")
        assert [now["metadata"].get(key) for key in same] == [before["metadata"].get(key) for key in same]
        await arena.live.delete(kind.resource, f"user-storage-{name}")
    for kind in foreign:
        await arena.live.until_ready(f"row{number}-{kind.field}")


async def no_such_storage_class(arena: Arena, number: int) -> None:
    await _unprovisioned(arena, number, {"storageClassName": "no-such-class"})


async def read_write_many(arena: Arena, number: int) -> None:
    """Use a storage class without a provisioner for this access mode: the claim stays Pending."""
    await _unprovisioned(arena, number, {"storageClassName": "read-write-once", "accessModes": ["ReadWriteMany"]})


async def host_taken(arena: Arena, number: int) -> None:
    network = {"expose": "Ingress", "hostTemplate": "${slug}.example.org"}
    name, cls = f"row{number}", await arena.create_class(f"row{number}", {"network": network})
    await arena.create(name, className=cls)
    await arena.live.until_condition("NetworkReady", "True", "Synced", name)
    await arena.create(name, live=arena.second, className=cls)
    assert f"{name}.example.org" in await arena.second.until_condition("NetworkReady", "False", "HostConflict", name)
    assert await arena.live.condition("NetworkReady", name) == ("True", "Synced")
    await arena.second.change({"spec": {"className": None}}, name)
    await arena.second.until_ready(name)


async def misspelt_field(arena: Arena, number: int) -> None:
    manifest = storage(arena.live.namespace, {"userID": "alice", "storag": "5Gi"})
    refused = arena.api.run("create", "--dry-run=server", "-f", "-", input=to_json(manifest), check=False)
    assert 'unknown field "spec.storag"' in refused.stderr


async def key_given_twice(arena: Arena, number: int) -> None:
    """Send raw requests, as kubectl itself keeps only the last of duplicate keys."""
    name = f"row{number}"
    twice = to_json(storage(arena.live.namespace, {"userID": name}, name)).replace('"userID"', '"userID": "bob", "userID"')
    path = f"/apis/userstorage.dev/v1/namespaces/{arena.live.namespace}/userstorages"
    strict = arena.api.run("create", "--raw", f"{path}?fieldValidation=Strict", "-f", "-", input=twice, check=False)
    assert 'duplicate field "spec.userID"' in strict.stderr
    arena.api.run("create", "--raw", path, "-f", "-", input=twice)
    await arena.live.until_ready(name)
    assert await arena.live.child(Kind.POD, "bob") is None


async def status_by_tenant(arena: Arena, number: int) -> None:
    name = f"row{number}"
    forged = {"phase": "Ready", "podName": "forged", "slug": "forged"}
    body = storage(arena.live.namespace, {"userID": name, "replicas": 0}, name) | {"status": forged}
    created = await arena.live.client.create(USER_STORAGES, arena.live.namespace, body)
    assert created["status"]["phase"] == "Pending"
    await arena.live.until_condition("Suspended", "True", "Requested", name)
    patched = await arena.live.change({"status": forged}, name)
    assert patched["status"]["slug"] == name
    await arena.live.change({"spec": {"replicas": 1}}, name)
    await arena.live.until_ready(name)


async def status_patched_by_tenant(arena: Arena, number: int) -> None:
    name, namespace = f"row{number}", arena.live.namespace
    await arena.create(name)
    arena.api.run("create", "rolebinding", "tenant", "--clusterrole=edit", "--user=tenant", "-n", namespace)
    patch = ["patch", "us", name, "--subresource=status", "--type=merge", "-p", '{"status":{"slug":"x"}}']
    refused = arena.api.run(*patch, "-n", namespace, "--as=tenant", "--as-group=system:authenticated", check=False)
    assert 'cannot patch resource "userstorages/status"' in refused.stderr
    assert (await arena.live.until_ready(name))["status"]["slug"] == name


async def forged_memory(arena: Arena, number: int) -> None:
    forged = json.dumps({"spec": {"userID": f"row{number}"}})
    await arena.create(f"row{number}", {"annotations": {"kopf.zalando.org/last-handled-configuration": forged}})
    await arena.live.until_ready(f"row{number}")


async def forged_progress(arena: Arena, number: int) -> None:
    later = json.dumps({"started": "2999-01-01T00:00:00", "delayed": "2999-01-01T00:00:00", "retries": 99})
    annotations = {"kopf.zalando.org/event": "{broken", "kopf.zalando.org/on_change": later, "kopf.dev/touch-dummy": "x"}
    await arena.create(f"row{number}", {"annotations": annotations})
    await arena.live.until_ready(f"row{number}")
    await _expect_idle(arena)


async def huge_annotations(arena: Arena, number: int) -> None:
    await arena.create(f"row{number}", {"annotations": {"note": "x" * 255 * 1024}})
    await arena.live.until_ready(f"row{number}")
    body = storage(arena.live.namespace, {"userID": "alice"})
    body["metadata"]["annotations"] = {"note": "x" * 300 * 1024}
    await arena.expect_refusal(USER_STORAGES, body, "metadata.annotations: Too long")


async def spoofed_pod(arena: Arena, number: int) -> None:
    name = f"row{number}"
    uid = (await arena.create(name))["metadata"]["uid"]
    await arena.live.until_ready(name)
    labels = (await arena.live.pod(name))["metadata"]["labels"]
    assert labels["userstorage.dev/uid"] == uid
    before = await arena.live.create_object(Kind.POD, f"{name}-spoofed", FOREIGN_SPECS[Kind.POD], labels=labels)
    await arena.live.change({"spec": {"storage": {"readOnly": True}}}, name)
    await arena.live.until_ready(name)
    await arena.live.delete(USER_STORAGES, name)
    await arena.live.until_gone(name)
    after = await arena.live.client.get(Kind.POD.resource, arena.live.namespace, f"{name}-spoofed")
    same = ("uid", "labels", "ownerReferences", "deletionTimestamp")
    assert [after["metadata"].get(key) for key in same] == [before["metadata"].get(key) for key in same]


async def absent_owner(arena: Arena, number: int) -> None:
    """Check that the garbage collector deletes an object whose owner does not exist, and that the claim is kept."""
    name = f"row{number}"
    await arena.create(name)
    await arena.live.until_ready(name)
    before = await arena.live.child(Kind.PVC, name)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "absent", "uid": "0b5f8c3e-0000-4000-8000-000000000001"}
    await arena.live.change({"metadata": {"ownerReferences": [owner]}}, name)
    await arena.live.until_gone(name)
    assert await arena.live.child(Kind.POD, name) is None
    after = await arena.live.child(Kind.PVC, name)
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


async def foreign_finalizer(arena: Arena, number: int) -> None:
    name = f"row{number}"
    await arena.create(name, {"finalizers": ["example.org/backup"]})
    await arena.live.until_ready(name)
    await arena.live.delete(USER_STORAGES, name)
    message = await arena.live.until_condition("Reconciling", "True", "WaitingForFinalizers", name)
    assert "example.org/backup" in message
    await _expect_idle(arena)
    await arena.live.change({"metadata": {"finalizers": None}}, name)
    await arena.live.until_gone(name)


async def preset_finalizer(arena: Arena, number: int) -> None:
    name = f"row{number}"
    await arena.create(name, {"finalizers": ["userstorage.dev/pod-gone"]})
    await arena.live.until_ready(name)
    await arena.live.delete(USER_STORAGES, name)
    await arena.live.until_gone(name)
    assert await arena.live.child(Kind.POD, name) is None


async def deletion_timestamp(arena: Arena, number: int) -> None:
    name, past = f"row{number}", "2020-01-01T00:00:00Z"
    await arena.create(name, {"deletionTimestamp": past})
    before = await arena.live.until_ready(name)
    with contextlib.suppress(Refused):
        await arena.live.change({"metadata": {"deletionTimestamp": past}}, name)
    after = await arena.live.until_ready(name)
    assert "deletionTimestamp" not in after["metadata"]
    assert after["status"]["podUID"] == before["status"]["podUID"]


async def unserved_namespace(arena: Arena, number: int) -> None:
    name, system = f"row{number}", Live(arena.live.client, "kube-system")
    for unserved in (arena.unserved, system):
        await arena.create(name, live=unserved)
    try:
        await arena.create(name)
        await arena.live.until_ready(name)  # created after the unserved ones, so they had their chance
        for unserved in (arena.unserved, system):
            raw = await unserved.get(name)
            assert raw is not None
            assert "finalizers" not in raw["metadata"]
            assert raw["status"]["phase"] == "Pending"
            assert await unserved.child(Kind.POD, name) is None
    finally:
        await system.delete(USER_STORAGES, name)


async def quota_of_objects(arena: Arena, number: int) -> None:
    """Set the quota in the second served namespace, which has few objects."""
    second, count = arena.second, "count/userstorages.userstorage.dev"
    present = len((await second.client.list_all(USER_STORAGES, second.namespace))[0])
    await second.set_quota("few", {count: str(present + 1)})
    await arena.create(f"row{number}-0", live=second)
    try:
        await arena.create(f"row{number}-1", live=second)
    except Refused as refused:
        assert (refused.status, "exceeded quota: few" in refused.message) == (403, True)  # noqa: PT017
    else:
        raise AssertionError("admitted beyond the quota")
    await second.until_ready(f"row{number}-0")
    await second.delete(QUOTAS, "few")
    await _until_it_succeeds(lambda: arena.create(f"row{number}-1", live=second))
    await second.until_ready(f"row{number}-1")


async def huge_object(arena: Arena, number: int) -> None:
    """Exceed etcd's limit by fields without a schema limit: the limit of annotations applies first."""
    body = storage(arena.live.namespace, {"userID": "alice"})
    body["metadata"]["annotations"] = {f"a{index}": "x" * 4096 for index in range(350)}
    refused = arena.api.run("create", "-f", "-", input=to_json(body), check=False)
    assert "metadata.annotations: Too long" in refused.stderr


async def older_object(arena: Arena, number: int) -> None:
    """Create an object without defaults, which stands in for one older than the defaults: v1 is the first version."""
    name = f"row{number}"
    async with _edited_crd(arena, _without_defaults):
        await _until_it_succeeds(lambda: _expect_no_defaults(arena, name))
        created = await arena.create(name)
        assert created["spec"] == {"userID": name}

    async def has_defaults() -> bool:
        raw = await arena.live.get(name)
        return raw is not None and raw["spec"].get("lifecycle", {}).get("startTimeout") == "5m"

    await arena.live.until(has_defaults)
    await arena.live.until_ready(name)
    assert await arena.comparable_pod(name) == await arena.comparable_pod("canary")


async def tightened_rules(arena: Arena, number: int) -> None:
    name = f"row{number}"
    await arena.create(name)
    before = await arena.live.until_ready(name)
    async with _edited_crd(arena, _without_rules_of_start_timeout):
        bad = {"spec": {"lifecycle": {"startTimeout": "5 minutes"}}}
        await _until_it_succeeds(lambda: arena.live.change(bad, name))
    await _until_it_succeeds(lambda: _expect_timeout_refused(arena, "victim"))
    message = await arena.live.until_condition("Stalled", "True", "InvalidSpec", name)
    assert "spec.lifecycle.startTimeout" in message
    assert await arena.live.condition("Ready", name) == ("True", "PodReady")
    await arena.live.change(
        {"spec": {"storage": {"reclaimPolicy": "Delete"}}}, name
    )  # validation ratcheting admits a change of an unrelated field
    await _expect_timeout_refused(arena, name)
    assert (await arena.live.pod(name))["metadata"]["uid"] == before["status"]["podUID"]
    await arena.live.change({"spec": {"lifecycle": {"startTimeout": "5m"}}}, name)
    assert (await arena.live.until_ready(name))["status"]["podUID"] == before["status"]["podUID"]


async def _unprovisioned(arena: Arena, number: int, fields: Unstructured) -> None:
    """Create a claim that is not provisioned, then bind it."""
    name = f"row{number}"
    cls = await arena.create_class(name, {"storage": fields, "podMetadata": ALLOWED})
    await arena.create(name, className=cls, podMetadata=NEVER_READY)
    assert f"user-storage-{name}" in await arena.live.until_condition("StorageReady", "False", "ClaimPending", name)
    await arena.live.change_child(Kind.PVC, {"spec": {"volumeName": f"volume-of-{name}"}}, name)
    bound = {"status": {"phase": "Bound", "capacity": {"storage": "10Gi"}}}
    await arena.live.client.merge_patch(Kind.PVC.resource, arena.live.namespace, f"user-storage-{name}", bound, "status")
    await arena.live.until_condition("StorageReady", "True", "ClaimBound", name)
    await arena.live.change(HEALED, name)
    await arena.live.until_ready(name)


def _requested(claim: Unstructured | None) -> str:
    """Return the storage that a claim requests."""
    assert claim is not None
    size: str = claim["spec"]["resources"]["requests"]["storage"]
    return size


async def _allow_expansion(arena: Arena, *, allowed: bool) -> None:
    await arena.live.client.merge_patch(STORAGE_CLASSES, None, "kwok-volume", {"allowVolumeExpansion": allowed})


async def _expect_idle(arena: Arena) -> None:
    """Assert that within ten periods of 1.5 s there is one without a write or a reconcile."""
    for _ in range(10):
        before = arena.metrics.writes(), arena.metrics.reconciles()
        await asyncio.sleep(1.5)
        if (arena.metrics.writes(), arena.metrics.reconciles()) == before:
            return
    raise AssertionError(f"still busy: {arena.metrics.requests}")


async def _until_it_succeeds(attempt: Callable[[], Awaitable[Any]], within: float = PATIENCE) -> None:
    """Repeat `attempt` until it raises no error: a change takes effect in the API server with a delay."""
    deadline = asyncio.get_running_loop().time() + within
    while True:
        try:
            await attempt()
        except (ClusterError, AssertionError):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)
        else:
            return


async def _expect_timeout_refused(arena: Arena, name: str) -> None:
    """Assert by a dry run that an invalid startTimeout is refused."""
    client, path = arena.live.client, USER_STORAGES.path(arena.live.namespace, name)
    patch = {"spec": {"lifecycle": {"startTimeout": "6 minutes"}}}
    try:
        await client._json("patch", USER_STORAGES, "PATCH", path, {"dryRun": "All"}, patch, "application/merge-patch+json")
    except Refused as refused:
        assert "spec.lifecycle.startTimeout" in refused.message  # noqa: PT017
    else:
        raise AssertionError("admitted")


async def _expect_no_defaults(arena: Arena, name: str) -> None:
    """Assert by a dry run that the API server sets no defaults."""
    body, path = storage(arena.live.namespace, {"userID": name}, name), USER_STORAGES.path(arena.live.namespace)
    created = await arena.live.client._json("create", USER_STORAGES, "POST", path, {"dryRun": "All"}, body)
    assert created["spec"] == {"userID": name}


@contextlib.asynccontextmanager
async def _edited_crd(arena: Arena, edit: Callable[[Unstructured], None]) -> AsyncIterator[None]:
    """Change the CRD's schema of the spec temporarily. No other test of this worker runs meanwhile on the API server."""
    client, name = arena.live.client, "userstorages.userstorage.dev"
    original = await client.get(DEFINITIONS, None, name)
    edited = copy.deepcopy(original["spec"])
    edit(edited["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"])
    await _replace_crd(arena, edited)
    try:
        yield
    finally:
        await _replace_crd(arena, original["spec"])


async def _replace_crd(arena: Arena, spec: Unstructured) -> None:
    client, name = arena.live.client, "userstorages.userstorage.dev"
    found = await client.get(DEFINITIONS, None, name)
    await client._json("update", DEFINITIONS, "PUT", DEFINITIONS.path(None, name), {}, found | {"spec": spec})


def _without_defaults(schema: Unstructured) -> None:
    schema.pop("default", None)
    for child in schema.get("properties", {}).values():
        _without_defaults(child)


def _without_rules_of_start_timeout(schema: Unstructured) -> None:
    field = schema["properties"]["lifecycle"]["properties"]["startTimeout"]
    del field["pattern"], field["x-kubernetes-validations"]
