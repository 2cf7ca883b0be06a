"""The operator's account has exactly the rights that it uses: the granted rights are those that the audit log shows in use.

One operator goes through everything that needs a right. Here only its requests count; other tests check their results.
"""

import contextlib
import json
import os
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from localcluster import gatewayapi
from localcluster.errors import ClusterError
from support.backend import account
from support.kubectl import COMMAND_TIMEOUT, PATIENCE, WAIT, Kubectl, eventually
from support.live import ALLOWED, LIFE
from support.operator_account import ACCOUNT, NAME, SYSTEM, Login, log_in, requests
from support.operator_process import PROGRAM, OperatorProcess
from support.operator_replicas import LEASE, free_lease
from support.rights import Right, allowed, attributes, granted

pytestmark = [pytest.mark.kwok]

CHECKED_BY_ADMISSION = {
    # Checked by the admission plugin OwnerReferencesPermissionEnforcement when a child is created. Tested below.
    Right("userstorage.dev", "userstorages/finalizers", "update"),
    # Checked by the policies of deploy/admission when a pod is created. Tested in tests/component/test_admission_policy.py.
    Right("userstorage.dev", "userstorageclasses", "use"),
}
"""Rights without a request of their own: the API server checks during admission whether the account has them."""
CLUSTER_SCOPED = {
    *(Right("userstorage.dev", "userstorageclasses", verb) for verb in ("list", "watch", "use")),
    *(Right("storage.k8s.io", "storageclasses", verb) for verb in ("list", "watch")),
    Right("authentication.k8s.io", "tokenreviews", "create"),
    Right("authorization.k8s.io", "subjectaccessreviews", "create"),
}
"""Rights that a namespace-scoped installation needs cluster-wide."""
HTTP_ROUTES = "crd/httproutes.gateway.networking.k8s.io"
FOREIGN_OBJECTS: dict[str, dict[str, Any]] = {
    "service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}},
    "policy": {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}},
    "claim": {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
    "ingress": {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "spec": {"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}},
    },
    "route": {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {"hostnames": ["x.example.org"]}},
}
"""Foreign objects that conflict with children of the user of that name; they have no labels, so only a GET request finds them."""
EDITED = ("services", "networkpolicies", "persistentvolumeclaims", "pods", "ingresses", "httproutes")


@pytest.fixture
def gateway_api(api: Kubectl) -> Iterator[None]:
    try:
        definition = gatewayapi.definition("httproutes")
    except ClusterError as error:
        pytest.skip(str(error))
    api.run("apply", "--server-side", "-f", str(definition))
    api.wait_established(HTTP_ROUTES)
    yield
    api.run("delete", HTTP_ROUTES)


@pytest.fixture
def classes(api: Kubectl) -> Iterator[dict[str, str]]:
    """The names of one class for each kind of exposure."""
    names = {way: f"{way.lower()}-{uuid.uuid4().hex[:8]}" for way in ("Ingress", "Gateway")}
    for way, name in names.items():
        network = {"expose": way, "gateway": {"name": "public"}, "hostTemplate": f"${{slug}}.{name}.example.org"}
        metadata = {"name": name}
        spec = {"network": network, "podMetadata": ALLOWED}
        api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": metadata, "spec": spec})
    yield names
    api.delete("usc", *names.values())


@pytest.fixture
def login(api: Kubectl, tmp_path: Path) -> Login:
    return log_in(api, tmp_path)


@pytest.fixture
def operator(
    api: Kubectl, login: Login, gateway_api: None, namespace: str, tmp_path: Path, port: int
) -> Iterator[OperatorProcess]:
    """An operator for all namespaces, which also writes the status of classes, with leader election as in a pod."""
    free_lease(api)
    election = ("--leader-elect", f"--lease-namespace={SYSTEM}")
    with OperatorProcess(login.kubeconfig, tmp_path / "operator.log", *election, f"--http-port={port}") as process:
        yield process
    released = [PROGRAM, "release-finalizers", f"--namespace={namespace}"]
    subprocess.run(
        released,
        env={**os.environ, "KUBECONFIG": str(api.kubeconfig)},
        capture_output=True,
        check=True,
        timeout=COMMAND_TIMEOUT,
    )
    api.run("delete", "httproutes", "--all", "-n", namespace)  # otherwise the deletion of their CRD would wait for them
    api.delete("lease", LEASE, namespace=SYSTEM)


def test_every_granted_right_is_used_and_every_used_right_is_granted(
    api: Kubectl, namespace: str, login: Login, operator: OperatorProcess, classes: dict[str, str], port: int
) -> None:
    create_foreign_objects(api, namespace)
    operator.start()
    api.delete("lease", LEASE, namespace=SYSTEM)  # the leader creates it again
    create_users(api, namespace, classes)
    request_read_api(api, namespace, port)
    edit_children_and_classes(api, namespace, classes)
    suspend_and_resume_twice(api, namespace)
    api.delete("us", "alice", namespace=namespace)

    rights = granted(api, ACCOUNT)
    assert len(rights) > 40

    def missing() -> set[Right]:
        return rights - used(api, login) - CHECKED_BY_ADMISSION

    # The audit log has a watch only after it has ended.
    with contextlib.suppress(AssertionError):  # the assertions below show what is missing
        eventually(lambda: all(right.verb == "watch" for right in missing()))
    operator.stop()
    with contextlib.suppress(AssertionError):
        eventually(lambda: not missing())
    assert rights - used(api, login) == CHECKED_BY_ADMISSION
    assert used(api, login) <= rights
    assert not [request for request in requests(api, login.credential) if request.forbidden]


def test_block_owner_deletion_is_refused_without_right_to_finalizers(api: Kubectl, namespace: str) -> None:
    api.apply(user(namespace, "alice"))
    alice = api.get("us", "alice", namespace)
    assert alice is not None
    owner = {key: alice[key] for key in ("apiVersion", "kind")} | {key: alice["metadata"][key] for key in ("name", "uid")}
    metadata = {"name": "child", "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}]}
    child = json.dumps(FOREIGN_OBJECTS["service"] | {"metadata": metadata})
    create = ["create", "--dry-run=server", "-n", namespace, "-f", "-"]
    api.run(*create, f"--as={ACCOUNT}", input=child)
    api.run("create", "role", "other", "--verb=create", "--resource=services", "-n", namespace)
    api.run("create", "rolebinding", "other", "--role=other", "--user=other", "-n", namespace)
    refused = eventually(lambda: (done := api.run(*create, "--as=other", input=child, check=False)).returncode and done)
    assert refused
    eventually(lambda: "cannot set blockOwnerDeletion" in api.run(*create, "--as=other", input=child, check=False).stderr)


def test_namespaced_installation_has_no_rights_elsewhere(api: Kubectl, namespace: str, tmp_path: Path) -> None:
    # deploy/overlays/namespaced unchanged, but for another account and namespace.
    bindings = narrow_bindings(api, namespace)
    api.run("create", "serviceaccount", namespace, "-n", SYSTEM)
    api.apply(*bindings)
    narrow, here = f"system:serviceaccount:{SYSTEM}:{namespace}", f"--namespace={namespace}"
    process = OperatorProcess(log_in(api, tmp_path, namespace).kubeconfig, tmp_path / "log", here)
    try:
        eventually(lambda: all(allowed(api, narrow, [attributes(right, namespace) for right in in_namespaces(api)])))
        rights = sorted(granted(api, ACCOUNT))
        elsewhere = allowed(api, narrow, [attributes(right, "default") for right in rights])
        assert {right for right, answer in zip(rights, elsewhere, strict=True) if answer} == CLUSTER_SCOPED
        process.start()
        api.apply(user(namespace, "alice"))
        eventually(lambda: api.phase("alice", namespace) == "Ready")
    finally:
        process.stop()
        for binding in bindings:
            scope = ["-n", binding["metadata"]["namespace"]] if binding["kind"] == "RoleBinding" else []
            api.run("delete", binding["kind"], binding["metadata"]["name"], *scope)
        api.delete("serviceaccount", namespace, namespace=SYSTEM)
        release(api, namespace)


def narrow_bindings(api: Kubectl, namespace: str) -> list[dict[str, Any]]:
    """Return the overlay's bindings of the operator's account, changed to an account named after `namespace`, in `namespace`."""
    manifests = yaml.safe_load_all(api.run("kustomize", str(ROOT / "deploy/overlays/namespaced")).stdout)
    found = []
    for binding in manifests:
        if binding["kind"] in ("RoleBinding", "ClusterRoleBinding") and binding["subjects"][0]["name"] == NAME:
            binding["metadata"]["name"] += f"-{namespace}"
            binding["subjects"][0]["name"] = namespace
            if binding["metadata"].get("namespace") == "team-a":
                binding["metadata"]["namespace"] = namespace
            found.append(binding)
    assert namespace in [binding["metadata"].get("namespace") for binding in found]
    return found


def in_namespaces(api: Kubectl) -> list[Right]:
    """Return the operator's rights that a RoleBinding can grant, except for those in the operator's own namespace."""
    excluded = {"userstorageclasses/status", "leases"}
    return [right for right in granted(api, ACCOUNT) if right.resource not in excluded]


def release(api: Kubectl, namespace: str) -> None:
    """Remove the operator's finalizers: without an operator, UserStorages could not be deleted."""
    command = [PROGRAM, "release-finalizers", f"--namespace={namespace}"]
    subprocess.run(
        command, env={**os.environ, "KUBECONFIG": str(api.kubeconfig)}, capture_output=True, check=True, timeout=COMMAND_TIMEOUT
    )


def used(api: Kubectl, login: Login) -> set[Right]:
    return {Right(request.group, request.resource, request.verb) for request in requests(api, login.credential)}


def user(namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": {"userID": name, **spec}}


def create_foreign_objects(api: Kubectl, namespace: str) -> None:
    """Create foreign objects with the names of children that the operator will want."""
    for name, manifest in FOREIGN_OBJECTS.items():
        api.apply(manifest | {"metadata": {"name": f"user-storage-{name}", "namespace": namespace}})


def create_users(api: Kubectl, namespace: str, classes: dict[str, str]) -> None:
    """Create two users that become ready, one whose pod mounts slowly so that events are read, and those with name conflicts."""
    ways = {"alice": "Ingress", "bob": "Gateway", "route": "Gateway"}
    slow = user(namespace, "slow", className=classes["Ingress"], podMetadata={"annotations": {LIFE: "container-creating"}})
    api.apply(
        slow,
        *(user(namespace, name, className=classes[ways.get(name, "Ingress")]) for name in ("alice", "bob", *FOREIGN_OBJECTS)),
    )
    api.run("wait", "us", "alice", "bob", "-n", namespace, "--for=condition=Ready", WAIT)
    eventually(lambda: api.get("ingress", "user-storage-alice", namespace))
    eventually(lambda: api.get("httproute", "user-storage-bob", namespace))


def request_read_api(api: Kubectl, namespace: str, port: int) -> None:
    """Query the read API as a backend: the operator then reviews the token and its rights at the API server."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/users/alice")  # http URL of this test
    request.add_header("Authorization", f"Bearer {account(api, namespace, here=True)}")
    with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310  # as above
        pass


def edit_children_and_classes(api: Kubectl, namespace: str, classes: dict[str, str]) -> None:
    """Edit children, wait for their repair, and then change the classes so that some children are no longer wanted."""
    for kind in EDITED:
        name = "user-storage-bob" if kind == "httproutes" else "user-storage-alice"
        api.run("label", kind, name, "-n", namespace, "--overwrite", "app=other")
    for kind in EDITED:
        name = "user-storage-bob" if kind == "httproutes" else "user-storage-alice"
        eventually(lambda kind=kind, name=name: label(api, kind, name, namespace) == "filebrowser")  # type: ignore[misc]
    for name in classes.values():
        network = {"expose": "ClusterIP", "policy": "None"}
        api.run("patch", "usc", name, "--type=merge", "-p", json.dumps({"spec": {"network": network}}))


def label(api: Kubectl, kind: str, name: str, namespace: str) -> str:
    found = api.get(kind, name, namespace)
    return str(found["metadata"]["labels"]["app"]) if found else ""


def suspend_and_resume_twice(api: Kubectl, namespace: str) -> None:
    """Cause the same Events twice: the second time, the count of the first Event is patched."""
    for replicas, phase in ((0, "Suspended"), (1, "Ready")) * 2:
        api.run("scale", "us", "alice", "-n", namespace, f"--replicas={replicas}")
        eventually(lambda phase=phase: api.phase("alice", namespace) == phase)  # type: ignore[misc]
