"""deploy/rbac on the real API server: what the operator and tenants are allowed to do, and what they are denied."""

from collections.abc import Callable, Iterator

import pytest

from conftest import ROOT
from support.kubectl import Kubectl, eventually
from support.manifests import Object, storage, to_json
from support.operator_account import ACCOUNT, SYSTEM
from support.rights import Right, allowed, attributes

TENANT = "tenant"
STATISTICS = "system:serviceaccount:userstorage-system:userstorage-volume-stats"


@pytest.fixture
def tenant(api: Kubectl, namespace: str) -> list[str]:
    """kubectl arguments that impersonate a user with the built-in role `edit` in the namespace."""
    api.run("create", "rolebinding", "tenant", "--clusterrole=edit", f"--user={TENANT}", "-n", namespace)
    tenant_arguments = ["-n", namespace, f"--as={TENANT}", "--as-group=system:authenticated"]
    eventually(lambda: may(api, tenant_arguments, "create", "userstorages.userstorage.dev"))  # a new binding takes effect late
    return tenant_arguments


def may(api: Kubectl, arguments: list[str], verb: str, resource: str) -> bool:
    """Whether `kubectl auth can-i` with the arguments allows the verb.

    `resource` may end with a slash and a subresource; kubectl itself would take that for a name.
    """
    resource, _, subresource = resource.partition("/")
    return api.run("auth", "can-i", verb, resource, f"--subresource={subresource}", *arguments, check=False).stdout == "yes\n"


ALLOWED = [
    "watch userstorages.userstorage.dev",
    "watch userstorageclasses.userstorage.dev",
    "patch userstorages.userstorage.dev",
    "update userstorages.userstorage.dev/finalizers",
    "patch userstorages.userstorage.dev/status",
    "patch userstorageclasses.userstorage.dev/status",
    "delete pods",
    "create services",
    "delete networkpolicies.networking.k8s.io",
    "delete ingresses.networking.k8s.io",
    "patch httproutes.gateway.networking.k8s.io",
    "patch persistentvolumeclaims",
    "watch storageclasses.storage.k8s.io",
    "list events",
    "create events.events.k8s.io",
    "patch events.events.k8s.io",
    "create tokenreviews.authentication.k8s.io",
    "create subjectaccessreviews.authorization.k8s.io",
]
REFUSED = [
    # data
    "delete persistentvolumeclaims",
    "deletecollection persistentvolumeclaims",
    "update persistentvolumeclaims",
    "patch persistentvolumeclaims/status",
    "get persistentvolumes",
    "delete persistentvolumes",
    "patch storageclasses.storage.k8s.io",
    # secrets and ways to read them
    "get secrets",
    "list secrets",
    "create secrets",
    "get configmaps",
    "create serviceaccounts",
    "create serviceaccounts/token",
    "create certificatesigningrequests.certificates.k8s.io",
    # access to running pods and nodes
    "create pods/exec",
    "create pods/attach",
    "create pods/portforward",
    "get pods/log",
    "patch pods/ephemeralcontainers",
    "patch pods/status",
    "create pods/binding",
    "create pods/eviction",
    "deletecollection pods",
    "get nodes",
    "create nodes/proxy",
    # privilege escalation
    "escalate clusterroles.rbac.authorization.k8s.io",
    "bind clusterroles.rbac.authorization.k8s.io",
    "patch clusterroles.rbac.authorization.k8s.io",
    "create rolebindings.rbac.authorization.k8s.io",
    "impersonate users",
    "impersonate serviceaccounts",
    # the policies that restrict the operator
    "patch validatingadmissionpolicies.admissionregistration.k8s.io",
    "create mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "patch customresourcedefinitions.apiextensions.k8s.io",
    "patch namespaces",
    "patch resourcequotas",
    # objects of users and administrators
    "create userstorages.userstorage.dev",
    "delete userstorages.userstorage.dev",
    "patch userstorageclasses.userstorage.dev",
    "create deployments.apps",
    "create jobs.batch",
    "get leases.coordination.k8s.io",
    "create leases.coordination.k8s.io",
    "patch ingresses.networking.k8s.io/status",
    "get ingressclasses.networking.k8s.io",
    "get gateways.gateway.networking.k8s.io",
    # verbs and resources next to those that it uses
    "delete services",
    "list events.events.k8s.io",
    "create events",
    "get storageclasses.storage.k8s.io",
]
"""Verbs that would be useful to a thief of the operator's token."""

LEASES = {
    "get userstorage-operator": True,
    "update userstorage-operator": True,
    "create ": True,
    "update kube-scheduler": False,
    "get kube-scheduler": False,
    "patch userstorage-operator": False,
    "delete userstorage-operator": False,
    "list ": False,
    "watch ": False,
}
"""Verb and name, in the operator's own namespace."""


def anywhere(row: str) -> Object:
    """Return access review attributes for the row in an arbitrary namespace."""
    verb, _, target = row.partition(" ")
    target, slash, subresource = target.partition("/")
    resource, _, group = target.partition(".")
    return attributes(Right(group, resource + slash + subresource, verb), "anywhere")


def lease(row: str) -> Object:
    verb, _, name = row.partition(" ")
    return {"namespace": SYSTEM, "verb": verb, "group": "coordination.k8s.io", "resource": "leases", "name": name}


@pytest.fixture(scope="module")
def may_operator(api: Kubectl) -> Callable[[Object], bool]:
    questions = [*map(anywhere, (*ALLOWED, *REFUSED)), *map(lease, LEASES)]
    answers = allowed(api, ACCOUNT, questions)
    return lambda question: answers[questions.index(question)]


@pytest.mark.parametrize("row", ALLOWED)
def test_operator_is_allowed_each_listed_request(may_operator: Callable[[Object], bool], row: str) -> None:
    assert may_operator(anywhere(row))


@pytest.mark.parametrize("row", REFUSED)
def test_operator_is_denied_each_listed_request(may_operator: Callable[[Object], bool], row: str) -> None:
    assert not may_operator(anywhere(row))


@pytest.mark.parametrize("row", LEASES)
def test_operator_may_access_only_its_own_lease(may_operator: Callable[[Object], bool], row: str) -> None:
    assert may_operator(lease(row)) is LEASES[row]


def test_tenant_can_create_scale_and_delete_storages(api: Kubectl, namespace: str, tenant: list[str]) -> None:
    api.run("create", *tenant, "-f", "-", input=to_json(storage(namespace, {"userID": "alice"}, name="alice")))
    api.run("scale", *tenant, "userstorage", "alice", "--replicas=0")
    api.run("get", *tenant, "userstorages")
    api.run("delete", *tenant, "userstorage", "alice")


def test_tenant_cannot_write_status(api: Kubectl, namespace: str, tenant: list[str]) -> None:
    # Row 49.
    api.run("create", *tenant, "-f", "-", input=to_json(storage(namespace, {"userID": "alice"}, name="alice")))
    patch = ["patch", "userstorage", "alice", "--subresource=status", "--type=merge", "-p", '{"status":{"slug":"x"}}']
    refused = api.run(*patch, *tenant, check=False)
    assert refused.returncode != 0
    assert 'cannot patch resource "userstorages/status"' in refused.stderr


def test_tenant_can_only_read_classes(api: Kubectl, tenant: list[str]) -> None:
    assert may(api, tenant, "list", "userstorageclasses.userstorage.dev")
    assert not any(
        may(api, tenant, verb, "userstorageclasses.userstorage.dev") for verb in ("create", "update", "patch", "delete")
    )


@pytest.fixture(scope="module")
def volume_stats(api: Kubectl) -> Iterator[None]:
    """The rights for volume statistics, an option that is off by default; other tests do not count them."""
    api.run("apply", "-k", str(ROOT / "deploy/volume-stats"))
    eventually(lambda: may(api, ["-A", f"--as={STATISTICS}"], "get", "nodes/stats"))
    yield
    api.run("delete", "-k", str(ROOT / "deploy/volume-stats"))


@pytest.mark.parametrize(
    ("account", "expected"), [("userstorage-volume-stats", True), ("userstorage-operator", False), ("default", False)]
)
def test_operator_may_create_only_volume_stats_token(api: Kubectl, volume_stats: None, account: str, expected: bool) -> None:
    token = ["create", f"serviceaccounts/{account}", "--subresource=token", "-n", "userstorage-system"]
    answer = "yes\n" if expected else "no\n"
    eventually(lambda: api.run("auth", "can-i", *token, f"--as={ACCOUNT}", check=False).stdout == answer)


@pytest.mark.parametrize(
    ("resource", "expected"),
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
def test_volume_stats_account_may_only_read_node_stats(
    api: Kubectl, volume_stats: None, verb: str, resource: str, expected: bool
) -> None:
    assert may(api, ["-A", f"--as={STATISTICS}"], verb, resource) is (expected and verb == "get")
