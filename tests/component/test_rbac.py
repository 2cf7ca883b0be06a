"""deploy/rbac, asked of the real API server: what the operator and tenants may do, and above all what they may not."""

import json

import pytest

from component.manifests import storage, text
from kubectl import Kubectl, eventually

OPERATOR = "system:serviceaccount:userstorage-system:userstorage-operator"
TENANT = "tenant"


@pytest.fixture
def tenant(api: Kubectl, namespace: str) -> list[str]:
    """Arguments to act as somebody with the cluster's own role `edit` in the namespace."""
    api.run("create", "rolebinding", "tenant", "--clusterrole=edit", f"--user={TENANT}", "-n", namespace)
    who = ["-n", namespace, f"--as={TENANT}", "--as-group=system:authenticated"]
    eventually(lambda: may(api, who, "create", "userstorages.userstorage.dev"))  # the API server takes a moment to see it
    return who


def may(api: Kubectl, who: list[str], verb: str, resource: str) -> bool:
    """`resource` may have a subresource behind a slash; to kubectl, a slash stands before a name."""
    resource, _, subresource = resource.partition("/")
    return api.run("auth", "can-i", verb, resource, f"--subresource={subresource}", *who, check=False).stdout == "yes\n"


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("watch", "userstorages.userstorage.dev"),
        ("watch", "userstorageclasses.userstorage.dev"),
        ("patch", "userstorages.userstorage.dev"),
        ("update", "userstorages.userstorage.dev/finalizers"),
        ("patch", "userstorages.userstorage.dev/status"),
        ("delete", "pods"),
        ("create", "services"),
        ("delete", "networkpolicies.networking.k8s.io"),
        ("delete", "ingresses.networking.k8s.io"),
        ("patch", "persistentvolumeclaims"),
        ("watch", "storageclasses.storage.k8s.io"),
        ("list", "events"),
        ("create", "events.events.k8s.io"),
        ("patch", "userstorageclasses.userstorage.dev/status"),
        ("patch", "events.events.k8s.io"),
        ("create", "tokenreviews.authentication.k8s.io"),
        ("create", "subjectaccessreviews.authorization.k8s.io"),
    ],
)
def test_the_operator_may(api: Kubectl, namespace: str, verb: str, resource: str) -> None:
    assert may(api, ["-n", namespace, f"--as={OPERATOR}"], verb, resource)


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("delete", "persistentvolumeclaims"),
        ("deletecollection", "persistentvolumeclaims"),
        ("update", "persistentvolumeclaims"),
        ("deletecollection", "pods"),
        ("create", "pods/exec"),
        ("get", "secrets"),
        ("get", "configmaps"),
        ("get", "nodes"),
        ("get", "leases.coordination.k8s.io"),
        ("create", "leases.coordination.k8s.io"),
        ("delete", "services"),
        ("patch", "ingresses.networking.k8s.io/status"),
        ("get", "ingressclasses.networking.k8s.io"),
        ("list", "events.events.k8s.io"),
        ("create", "events"),
        ("patch", "userstorageclasses.userstorage.dev"),
        ("delete", "userstorages.userstorage.dev"),
        ("patch", "clusterroles.rbac.authorization.k8s.io"),
    ],
)
def test_the_operator_may_not(api: Kubectl, namespace: str, verb: str, resource: str) -> None:
    assert not may(api, ["-n", namespace, f"--as={OPERATOR}"], verb, resource)


@pytest.mark.parametrize(
    ("verb", "name", "allowed"),
    [
        ("get", "userstorage-operator", True),
        ("update", "userstorage-operator", True),
        ("create", "", True),
        ("update", "kube-scheduler", False),
        ("get", "kube-scheduler", False),
        ("patch", "userstorage-operator", False),
        ("delete", "userstorage-operator", False),
        ("list", "", False),
        ("watch", "", False),
    ],
)
def test_of_leases_the_operator_has_its_own(api: Kubectl, verb: str, name: str, allowed: bool) -> None:
    lease = "leases.coordination.k8s.io" + (f"/{name}" if name else "")
    asked = api.run("auth", "can-i", verb, lease, "-n", "userstorage-system", f"--as={OPERATOR}", check=False)
    assert asked.stdout == ("yes\n" if allowed else "no\n")


@pytest.mark.parametrize(
    ("account", "allowed"), [("userstorage-volume-stats", True), ("userstorage-operator", False), ("default", False)]
)
def test_of_tokens_the_operator_gets_those_for_nodes(api: Kubectl, account: str, allowed: bool) -> None:
    token = ["create", f"serviceaccounts/{account}", "--subresource=token", "-n", "userstorage-system"]
    asked = api.run("auth", "can-i", *token, f"--as={OPERATOR}", check=False)
    assert asked.stdout == ("yes\n" if allowed else "no\n")


@pytest.mark.parametrize(
    ("resource", "allowed"),
    [
        ("nodes/stats", True),
        ("nodes/proxy", False),
        ("nodes/metrics", False),
        ("nodes/log", False),
        ("nodes", False),
        ("pods", False),
    ],
)
@pytest.mark.parametrize("verb", ["get", "create"])
def test_with_such_a_token_statistics_are_read_and_nothing_else(api: Kubectl, verb: str, resource: str, allowed: bool) -> None:
    who = ["-A", "--as=system:serviceaccount:userstorage-system:userstorage-volume-stats"]
    assert may(api, who, verb, resource) is (allowed and verb == "get")


@pytest.mark.parametrize(("verb", "resource", "allowed"), [("patch", "httproutes", True), ("get", "gateways", False)])
def test_of_the_gateway_api_the_operator_has_routes_only(
    api: Kubectl, namespace: str, verb: str, resource: str, allowed: bool
) -> None:
    """Not with kubectl's own question, which cannot be put about what is not installed."""
    attributes = {"namespace": namespace, "verb": verb, "group": "gateway.networking.k8s.io", "resource": resource}
    spec = {"user": OPERATOR, "resourceAttributes": attributes}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    answer = api.run("create", "-f", "-", "-o", "json", input=json.dumps(review))
    assert json.loads(answer.stdout)["status"]["allowed"] is allowed


def test_a_tenant_makes_scales_and_deletes_storages(api: Kubectl, namespace: str, tenant: list[str]) -> None:
    api.run("create", *tenant, "-f", "-", input=text(storage(namespace, {"userID": "alice"}, name="alice")))
    api.run("scale", *tenant, "userstorage", "alice", "--replicas=0")
    api.run("get", *tenant, "userstorages")
    api.run("delete", *tenant, "userstorage", "alice")


def test_a_tenant_cannot_write_the_status(api: Kubectl, namespace: str, tenant: list[str]) -> None:
    """Row 49."""
    api.run("create", *tenant, "-f", "-", input=text(storage(namespace, {"userID": "alice"}, name="alice")))
    patch = ["patch", "userstorage", "alice", "--subresource=status", "--type=merge", "-p", '{"status":{"slug":"x"}}']
    refused = api.run(*patch, *tenant, check=False)
    assert refused.returncode != 0
    assert 'cannot patch resource "userstorages/status"' in refused.stderr


def test_a_tenant_reads_classes_and_writes_none(api: Kubectl, tenant: list[str]) -> None:
    assert may(api, tenant, "list", "userstorageclasses.userstorage.dev")
    assert not any(
        may(api, tenant, verb, "userstorageclasses.userstorage.dev") for verb in ("create", "update", "patch", "delete")
    )
