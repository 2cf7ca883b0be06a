"""Attacks of a tenant with the built-in role `edit` in one namespace and its own login: each is refused.

Bad specs are in tests/component/test_bad_inputs.py, forged objects in test_forged.py, rights of roles in test_rbac.py.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.kubectl import Kubectl, eventually
from support.manifests import storage
from support.operator_account import ACCOUNT, NAME, SYSTEM, log_in
from support.operator_pod import pod
from support.operator_process import OperatorProcess

pytestmark = [pytest.mark.kwok]

Object = dict[str, Any]


@pytest.fixture
def tenant(api: Kubectl, namespace: str, tmp_path: Path) -> Iterator[Kubectl]:
    api.run("create", "serviceaccount", "tenant", "-n", namespace)
    api.run("create", "rolebinding", "tenant", "--clusterrole=edit", f"--serviceaccount={namespace}:tenant", "-n", namespace)
    with Kubectl(log_in(api, tmp_path, "tenant", namespace).kubeconfig) as found:
        eventually(lambda: found.run("auth", "can-i", "create", "us", "-n", namespace, check=False).returncode == 0)
        yield found


@pytest.fixture
def neighbour(api: Kubectl) -> Iterator[str]:
    """Another tenant's namespace, with a shareable claim."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"userstorage.dev/shareable": "true"}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "treasure", "namespace": name, "labels": labels}
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    api.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})
    yield name
    api.delete("namespace", name)


def bound(claim: Object | None) -> Object | None:
    """Return the claim if the cluster has bound it and changes it no more."""
    return claim if claim is not None and claim.get("status", {}).get("phase") == "Bound" else None


def refusal(tenant: Kubectl, *command: str, manifest: Object | None = None) -> str:
    """Run a command that must be refused, and return its error."""
    done = tenant.run(*command, input=json.dumps(manifest) if manifest else None, check=False)
    assert done.returncode != 0, done.stdout
    return done.stderr


def pod_like_alices(**changes: Any) -> Object:
    """Return a pod that imitates alice's pod, with changes of its spec or container."""
    imitation = pod()
    imitation["metadata"]["name"] = "user-storage-mallory"
    imitation["spec"] |= {"volumes": [], **changes.pop("spec", {})}
    imitation["spec"]["containers"][0] |= {"volumeMounts": [], **changes}
    imitation["spec"]["initContainers"] = []
    return imitation


@pytest.mark.parametrize(
    "changes",
    [
        {"securityContext": {"privileged": True}},
        {"securityContext": {"runAsUser": 0}},
        {"spec": {"hostNetwork": True}},
        {"spec": {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}},
    ],
)
def test_pod_imitating_a_child_must_meet_restricted_pod_security(tenant: Kubectl, namespace: str, changes: Object) -> None:
    tenant.run("create", "--dry-run=server", "-f", "-", "-n", namespace, input=json.dumps(pod_like_alices()))
    error = refusal(tenant, "create", "-f", "-", "-n", namespace, manifest=pod_like_alices(**changes))
    assert 'violates PodSecurity "restricted' in error


def test_tenant_cannot_label_namespace(tenant: Kubectl, namespace: str) -> None:
    for label in ("pod-security.kubernetes.io/enforce=privileged", "userstorage.dev/gateway=true"):
        assert "cannot patch resource" in refusal(tenant, "label", "namespace", namespace, "--overwrite", label)


def test_tenant_cannot_extend_running_pod(api: Kubectl, tenant: Kubectl, namespace: str, operator: OperatorProcess) -> None:
    # A tenant that may edit pods can change the image, and the operator replaces that pod; privileges cannot be changed.
    operator.start()
    tenant.run("create", "-f", "-", input=json.dumps(storage(namespace, {"userID": "alice"}, name="alice")))
    eventually(lambda: api.phase("alice", namespace) == "Ready")
    debug = ["debug", "user-storage-alice", "-n", namespace, "--image=example.com/tools:1", "--profile=sysadmin"]
    assert "cannot patch resource" in refusal(tenant, *debug)
    before = api.get("pod", "user-storage-alice", namespace)
    assert before is not None
    image = {"spec": {"containers": [{"name": "filebrowser", "image": "example.com/evil:1"}]}}
    tenant.run("patch", "pod", "user-storage-alice", "-n", namespace, "-p", json.dumps(image))

    def replaced() -> bool:
        now = api.get("pod", "user-storage-alice", namespace)
        return now is not None and now["metadata"]["uid"] != before["metadata"]["uid"]

    eventually(replaced)
    eventually(lambda: api.phase("alice", namespace) == "Ready")
    after = api.get("pod", "user-storage-alice", namespace)
    assert after is not None
    assert after["spec"]["containers"][0]["image"] == before["spec"]["containers"][0]["image"]


def test_claim_of_another_namespace_is_unreachable(
    api: Kubectl, tenant: Kubectl, namespace: str, neighbour: str, operator: OperatorProcess
) -> None:
    before = eventually(lambda: bound(api.get("pvc", "treasure", neighbour)))
    for spec in ({"claimName": f"{neighbour}/treasure"}, {"claimName": "treasure", "subPath": f"../{neighbour}"}):
        manifest = storage(namespace, {"userID": "mallory", "storage": spec})
        assert "storage." in refusal(tenant, "create", "-f", "-", manifest=manifest)
    in_other_namespace = storage(neighbour, {"userID": "mallory", "storage": {"claimName": "treasure"}})
    assert "cannot create resource" in refusal(tenant, "create", "-f", "-", manifest=in_other_namespace)
    assert "cannot get resource" in refusal(tenant, "get", "pvc", "treasure", "-n", neighbour)
    operator.start()
    in_own_namespace = storage(namespace, {"userID": "mallory", "storage": {"claimName": "treasure"}}, name="mallory")
    tenant.run("create", "-f", "-", input=json.dumps(in_own_namespace))
    eventually(lambda: "ClaimNotFound" in api.run("get", "us", "mallory", "-n", namespace, "-o", "yaml").stdout)
    assert api.list_all("pods", namespace) == []
    assert api.list_all("pods", neighbour) == []
    assert api.get("pvc", "treasure", neighbour) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["create", "token", NAME, "-n", SYSTEM], "cannot create resource"),
        (["get", "secrets", "-n", SYSTEM], "cannot list resource"),
        (["get", "pods", "-n", SYSTEM], "cannot list resource"),
        (["exec", "userstorage-operator-0", "-n", SYSTEM, "--", "cat", "/var/run/secrets/token"], "cannot get resource"),
        (["get", "us", "-A", f"--as={ACCOUNT}"], "cannot impersonate"),
        (["get", "us", "-A", "--as=system:admin", "--as-group=system:masters"], "cannot impersonate"),
        (["create", "rolebinding", "x", "--clusterrole=userstorage-operator", "--user=x"], "cannot create resource"),
        (["create", "clusterrolebinding", "x", "--clusterrole=cluster-admin", "--user=x"], "cannot create resource"),
        (["patch", "lease", NAME, "-n", SYSTEM, "-p", "{}"], "cannot get resource"),
        (["delete", "crd", "userstorages.userstorage.dev"], "cannot delete resource"),
        (["delete", "validatingadmissionpolicybinding", "userstorage-operator-class-names"], "cannot delete resource"),
    ],
    ids=lambda given: " ".join(given[:3]) if isinstance(given, list) else "",
)
def test_tenant_cannot_use_operator_token_rights_or_lease(
    tenant: Kubectl, namespace: str, command: list[str], message: str
) -> None:
    own = [] if "-n" in command or "-A" in command else ["-n", namespace]
    assert message in refusal(tenant, *command[:1], *own, *command[1:])


def test_account_with_operator_name_in_other_namespace_has_no_rights(
    api: Kubectl, tenant: Kubectl, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "namesake").mkdir()
    tenant.run("create", "serviceaccount", NAME, "-n", namespace)
    namesake = Kubectl(log_in(tenant, tmp_path / "namesake", NAME, namespace).kubeconfig)
    for verb, resource in (("list", "userstorages"), ("create", "pods"), ("patch", "services")):
        asked = namesake.run("auth", "can-i", verb, resource, "-n", namespace, check=False)
        assert asked.stdout == "no\n"


def test_tenant_cannot_write_status_or_finalizers_subresource(tenant: Kubectl, namespace: str) -> None:
    # An object that is created with a status gets only the schema's default status.
    manifest = storage(namespace, {"userID": "alice"}, name="alice") | {"status": {"phase": "Ready", "slug": "mallory"}}
    tenant.run("create", "-f", "-", input=json.dumps(manifest))
    created = tenant.get("us", "alice", namespace)
    assert created is not None
    assert "slug" not in created["status"]
    assert created["status"].get("phase") != "Ready"
    for subresource in ("status", "finalizers"):
        asked = tenant.run(
            "auth", "can-i", "update", "userstorages", f"--subresource={subresource}", "-n", namespace, check=False
        )
        assert asked.stdout == "no\n"
    error = refusal(
        tenant, "patch", "us", "alice", "-n", namespace, "--subresource=status", "--type=merge", "-p", '{"status":{}}'
    )
    assert 'cannot patch resource "userstorages/status"' in error
