"""deploy/admission on the real API server: pods that no holder of the operator's token can create."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from conftest import ROOT
from support import apiproxy
from support.apiproxy import ApiProxy
from support.kubectl import Kubectl, eventually
from support.operator_account import ACCOUNT
from support.operator_pod import FILEBROWSER, pod
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.browsers import copyparty

DUFS = "docker.io/sigoden/dufs:v0.47.0"
OTHER = "docker.io/library/busybox:1.37"
CONTAINER = ("spec", "containers", 0)
CLASS = ("metadata", "annotations", "userstorage.dev/class")
MANAGED_BY = ("metadata", "labels", "userstorage.dev/managed-by")


def modified_pod(path: tuple[str | int, ...], value: Any) -> Unstructured:
    """Return the operator's pod with one field set, or removed if `value` is None."""
    changed = pod()
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[step] if isinstance(step, int) else parent.setdefault(step, {})
    if value is None:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return changed


class Policies:
    """The API server with the policies in force, used by the operator's account."""

    def __init__(self, api: Kubectl, proxy: ApiProxy, namespace: str) -> None:
        self._api = api
        self._proxy = proxy
        self._namespace = namespace

    def refusal(self, manifest: Unstructured) -> str:
        """Return the API server's refusal to create the pod (dry run), or an empty string if it would be created."""
        metadata = manifest["metadata"] | {"namespace": self._namespace}
        return apiproxy.refusal(self._proxy.create(manifest | {"metadata": metadata}, as_user=ACCOUNT, dry_run=True))

    def run(self, *command: str, manifest: Unstructured | None = None) -> str:
        """Run kubectl as the operator's account; return its error, or an empty string if it succeeds."""
        body = json.dumps(manifest) if manifest else None
        done = self._api.run(*command, f"--as={ACCOUNT}", "-n", self._namespace, input=body, check=False)
        return done.stderr if done.returncode else ""


@pytest.fixture(scope="module")
def lenient(api: Kubectl) -> Iterator[str]:
    """A namespace without Pod Security enforcement, so that every refusal comes from the policies."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    api.delete("namespace", name)


@pytest.fixture(scope="module")
def classes(api: Kubectl) -> Iterator[dict[str, str]]:
    """The names of four classes: with its own image, of another flavor, with all defaults, and with keys for pods of File Browser."""
    none = {"mode": "None", "acknowledgeUnauthenticated": True}
    specs: dict[str, Unstructured] = {
        "own": {"browser": {"flavor": "Custom", "image": OTHER}, "auth": none},
        "dufs": {"browser": {"flavor": "Dufs"}, "auth": none},
        "plain": {},
        "keys": {
            "browser": {"flavor": "FileBrowser"},
            "podMetadata": {"annotations": {"example.org/set": "1"}, "allowed": ["team", "example.org/"]},
            "scheduling": {
                "tolerations": [{"key": "example.org/set", "operator": "Exists"}],
                "allowed": {"tolerations": ["example.org/gpu"]},
            },
        },
    }
    names = {kind: f"{kind}-{uuid.uuid4().hex[:8]}" for kind in specs}
    for kind, spec in specs.items():
        metadata = {"name": names[kind]}
        api.apply({"apiVersion": "userstorage.dev/v1", "kind": "UserStorageClass", "metadata": metadata, "spec": spec})
    yield names
    api.delete("usc", *names.values())


@pytest.fixture(scope="module")
def platform_policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the kustomization of docs/security.md, which allows what the platform adds to every pod."""
    directory = tmp_path_factory.mktemp("platform")
    copytree(ROOT / "deploy/admission", directory / "admission")
    [text] = re.findall(r"```yaml\n(resources: \[admission\].*?)```", (ROOT / "docs/security.md").read_text(), re.DOTALL)
    (directory / "kustomization.yaml").write_text(text)
    return directory


@pytest.fixture(scope="module")
def policies(api: Kubectl, api_proxy: ApiProxy, lenient: str, classes: dict[str, str], platform_policies: Path) -> Policies:
    """The API server once the policies are in force: the API server loads policies and classes with a delay."""
    api.run("apply", "-k", str(platform_policies))
    found = Policies(api, api_proxy, lenient)
    eventually(lambda: "hostNetwork" in found.refusal(modified_pod(("spec", "hostNetwork"), value=True)))
    eventually(lambda: "built-in image" in found.refusal(pod(OTHER)))
    for name in classes.values():
        eventually(lambda name=name: "not the one of" in found.refusal(pod("docker.io/library/nothing:1", name)))  # type: ignore[misc]
    return found


SECURITY: tuple[str | int, ...] = (*CONTAINER, "securityContext")
UNRESTRICTED: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "host network": (("spec", "hostNetwork"), True, "spec.hostNetwork"),
    "host processes": (("spec", "hostPID"), True, "hostPID"),
    "host memory": (("spec", "hostIPC"), True, "hostIPC"),
    "a chosen node": (("spec", "nodeName"), "fake-1", "spec.nodeName"),
    "a token": (("spec", "automountServiceAccountToken"), True, "spec.automountServiceAccountToken"),
    "a token by default": (("spec", "automountServiceAccountToken"), None, "spec.automountServiceAccountToken"),
    "a directory of the node": (("spec", "volumes", 1), {"name": "database", "hostPath": {"path": "/"}}, "spec.volumes"),
    "a Secret as a volume": (("spec", "volumes", 1), {"name": "database", "secret": {"secretName": "s"}}, "spec.volumes"),
    "a projected token": (
        ("spec", "volumes", 1),
        {"name": "database", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
        "spec.volumes",
    ),
    "root not excluded": (("spec", "securityContext", "runAsNonRoot"), None, "runAsNonRoot"),
    "root": (("spec", "securityContext", "runAsUser"), 0, "runAsNonRoot"),
    "root in a container": ((*SECURITY, "runAsUser"), 0, "runAsNonRoot"),
    "root not excluded in a container": ((*SECURITY, "runAsNonRoot"), False, "runAsNonRoot"),
    "no seccomp": (("spec", "securityContext", "seccompProfile"), None, "seccompProfile"),
    "no seccomp in a container": ((*SECURITY, "seccompProfile"), {"type": "Unconfined"}, "seccompProfile"),
    "a sysctl": (("spec", "securityContext", "sysctls"), [{"name": "kernel.msgmax", "value": "1"}], "sysctls"),
    "no apparmor": ((*SECURITY, "appArmorProfile"), {"type": "Unconfined"}, "appArmor"),
    "another selinux type": ((*SECURITY, "seLinuxOptions"), {"type": "spc_t"}, "seLinuxOptions"),
    "another selinux type for all": (("spec", "securityContext", "seLinuxOptions"), {"type": "spc_t"}, "seLinuxOptions"),
    "a level by OpenShift": (("spec", "securityContext", "seLinuxOptions"), {"level": "s0:c27,c4"}, ""),
    "escalation": ((*SECURITY, "allowPrivilegeEscalation"), True, "allowPrivilegeEscalation"),
    "escalation by default": ((*SECURITY, "allowPrivilegeEscalation"), None, "allowPrivilegeEscalation"),
    "privileges": (SECURITY, {"privileged": True}, "privileged: must be false"),
    "a capability": ((*SECURITY, "capabilities", "add"), ["SYS_ADMIN"], "capabilities"),
    "capabilities by default": ((*SECURITY, "capabilities"), None, "capabilities"),
    "in the init container only": (
        ("spec", "initContainers", 0, "securityContext", "capabilities"), None, "capabilities",
    ),
    "a port of the node": (
        (*CONTAINER, "ports"), [{"name": "http", "containerPort": 8080, "hostPort": 8080}], "hostPort",
    ),
    "a Secret as a variable": (
        (*CONTAINER, "env"), [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}], "env",
    ),
    "a Secret as all variables": ((*CONTAINER, "envFrom"), [{"secretRef": {"name": "s"}}], "env"),
    "a probe of another host": ((*CONTAINER, "livenessProbe", "httpGet", "host"), "169.254.169.254", "probes"),
    "a hook": ((*CONTAINER, "lifecycle"), {"postStart": {"exec": {"command": ["true"]}}}, "probes and lifecycle"),
    "another image": ((*CONTAINER, "image"), OTHER, "built-in image"),
    "another image in the init container": (("spec", "initContainers", 0, "image"), OTHER, "built-in image"),
    "without our label": (MANAGED_BY, None, "metadata.labels"),
    "with the label of another manager": (MANAGED_BY, "helm", "metadata.labels"),
    "without any label": (("metadata", "labels"), None, "metadata.labels"),
    "no class": (CLASS, None, ""),
}  # fmt: skip


@pytest.mark.parametrize("row", UNRESTRICTED)
def test_unrestricted_pod_is_refused_with_field(policies: Policies, row: str) -> None:
    path, value, message = UNRESTRICTED[row]
    refusal = policies.refusal(modified_pod(path, value))
    assert bool(refusal) == bool(message)
    assert message.lower() in refusal.lower()  # Kubernetes 1.32 adds an annotation with AppArmor's name, refused too
    assert ("userstorage-operator-" in refusal) == bool(message)  # refused by our policy, not by another admission check


def test_operators_own_pod_is_admitted(policies: Policies) -> None:
    assert policies.refusal(pod()) == ""
    assert policies.refusal(pod(DUFS)) == ""
    recommended = ("metadata", "labels", "app.kubernetes.io/managed-by")
    assert policies.refusal(modified_pod(recommended, "platform")) == ""


@pytest.mark.parametrize(
    ("kind", "image", "admitted"),
    [
        ("own", OTHER, True),
        ("own", FILEBROWSER, False),
        ("dufs", DUFS, True),
        ("dufs", FILEBROWSER, False),
        ("plain", copyparty.IMAGE, True),
        ("plain", FILEBROWSER, False),
        ("plain", DUFS, False),
        ("plain", OTHER, False),
    ],
)
def test_image_must_be_that_of_the_class(
    policies: Policies, classes: dict[str, str], kind: str, image: str, admitted: bool
) -> None:
    refusal = policies.refusal(pod(image, classes[kind]))
    assert (refusal == "") == admitted
    assert admitted or f"not the one of UserStorageClass {classes[kind]}" in refusal


EXISTS = {"operator": "Exists"}
LABELS: tuple[str | int, ...] = ("metadata", "labels")
ANNOTATIONS: tuple[str | int, ...] = ("metadata", "annotations")
CONTROL_PLANE = [EXISTS | {"key": "node-role.kubernetes.io/control-plane"}]
TOLERATIONS: tuple[str | int, ...] = ("spec", "tolerations")
MEMORY_PRESSURE = [EXISTS | {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}]
"""What the admission plugin PodTolerationRestriction adds."""
RECOMMENDED: tuple[str | int, ...] = (*LABELS, "app.kubernetes.io/managed-by")
ADDED: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "an allowed label": ((*LABELS, "team"), "blue", ""),
    "a label with an allowed prefix": ((*LABELS, "example.org/team"), "blue", ""),
    "another label": ((*LABELS, "component"), "api", "metadata.labels"),
    "an annotation of the class": ((*ANNOTATIONS, "example.org/set"), "1", ""),
    "an annotation of the API server": ((*ANNOTATIONS, "kubernetes.io/limit-ranger"), "defaults", ""),
    "a hook of a backup": ((*ANNOTATIONS, "pre.hook.backup.velero.io/command"), '["sh"]', "metadata.annotations"),
    "an identity": ((*LABELS, "azure.workload.identity/use"), "true", "metadata.labels"),
    "a toleration of the class": (TOLERATIONS, [EXISTS | {"key": "example.org/set"}], ""),
    "an allowed toleration": (TOLERATIONS, [{"key": "example.org/gpu", "value": "a", "effect": "NoSchedule"}], ""),
    "another toleration": (TOLERATIONS, [EXISTS | {"key": "dedicated"}], "spec.tolerations"),
    "a toleration of the control plane": (TOLERATIONS, CONTROL_PLANE, "spec.tolerations"),
    "a toleration of everything": (TOLERATIONS, [EXISTS], "every taint"),
    "a toleration of memory pressure": (TOLERATIONS, MEMORY_PRESSURE, ""),
    "a toleration of any memory pressure": (
        TOLERATIONS, [EXISTS | {"key": "node.kubernetes.io/memory-pressure"}], "spec.tolerations",
    ),
    "a toleration of lost nodes for ever": (
        TOLERATIONS, [EXISTS | {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}], "spec.tolerations",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ADDED)
def test_pod_has_only_keys_of_its_class(policies: Policies, classes: dict[str, str], row: str) -> None:
    path, value, message = ADDED[row]
    changed = modified_pod(path, value)
    changed["metadata"]["annotations"]["userstorage.dev/class"] = classes["keys"]
    refusal = policies.refusal(changed)
    assert (refusal == "") == (message == "")
    assert message in refusal
    assert not message or f"UserStorageClass {classes['keys']} neither sets nor allows" in refusal


@pytest.mark.parametrize("value", [None, "platform"])
def test_keys_are_checked_whatever_the_recommended_label_is(
    policies: Policies, classes: dict[str, str], value: str | None
) -> None:
    changed = modified_pod(RECOMMENDED, value)
    changed["metadata"]["annotations"]["userstorage.dev/class"] = classes["keys"]
    assert policies.refusal(changed) == ""
    changed["metadata"]["labels"]["component"] = "api"
    assert "neither sets nor allows component" in policies.refusal(changed)


@pytest.mark.parametrize("row", ADDED)
def test_pod_without_class_has_only_keys_of_the_operator(policies: Policies, row: str) -> None:
    path, value, _ = ADDED[row]
    refusal = policies.refusal(modified_pod(path, value))
    assert (refusal == "") == (row in ("an annotation of the API server", "a toleration of memory pressure"))
    assert not refusal or "without the annotation userstorage.dev/class must not have" in refusal


@pytest.mark.parametrize("has_class", [True, False])
@pytest.mark.parametrize(
    ("field", "key", "admitted"),
    [
        ("labels", "platform", False),
        ("labels", "cost-centers", False),
        ("labels", "kueue.x-k8s.io", False),
        ("labels", "cost-center", True),
        ("labels", "kueue.x-k8s.io/managed", True),
        ("annotations", "kueue.x-k8s.io/workload", True),
    ],
)
def test_platform_adds_only_its_keys(
    policies: Policies, classes: dict[str, str], field: str, key: str, has_class: bool, admitted: bool
) -> None:
    named = pod(FILEBROWSER, classes["keys"]) if has_class else pod()
    metadata = named["metadata"] | {field: named["metadata"].get(field, {}) | {key: "x"}}
    refusal = policies.refusal(named | {"metadata": metadata})
    assert (key in refusal) is not admitted, refusal
    assert bool(refusal) is not admitted, refusal


def test_running_pod_gets_only_keys_of_its_class(policies: Policies, classes: dict[str, str]) -> None:
    for name, class_name in (("with-keys", classes["keys"]), ("without-class", "")):
        running = pod(class_name=class_name)
        running["metadata"]["name"] = name
        assert policies.run("create", "-f", "-", manifest=running) == ""
        hook = {"metadata": {"annotations": {"post.hook.backup.velero.io/command": '["sh"]'}}}
        assert "post.hook.backup.velero.io/command" in policies.run("patch", "pod", name, "-p", json.dumps(hook))
        own = {"metadata": {"annotations": {"userstorage.dev/base-path": "/files/"}}}
        assert policies.run("patch", "pod", name, "-p", json.dumps(own)) == ""
    team = {"metadata": {"labels": {"team": "red"}}}
    assert policies.run("patch", "pod", "with-keys", "-p", json.dumps(team)) == ""
    assert "must not have team" in policies.run("patch", "pod", "without-class", "-p", json.dumps(team))
    unnamed = {"metadata": {"annotations": {"userstorage.dev/class": "", "example.org/note": "x"}}}
    assert "must not have example.org/note" in policies.run("patch", "pod", "with-keys", "-p", json.dumps(unnamed))


@pytest.mark.parametrize("kind", ["keys", ""], ids=["with-class", "without-class"])
def test_running_pod_gets_only_tolerations_of_its_class(
    api: Kubectl, policies: Policies, lenient: str, classes: dict[str, str], kind: str
) -> None:
    running = pod(class_name=classes[kind] if kind else "")
    running["metadata"]["name"] = name = f"tolerant-{kind}x"
    assert policies.run("create", "-f", "-", manifest=running) == ""
    append = json.dumps([{"op": "add", "path": "/spec/tolerations/-", "value": EXISTS | {"key": "dedicated"}}])
    patch = ("patch", "pod", name, "--type=json", "-p")
    assert "spec.tolerations" in policies.run(*patch, append)
    pressure = json.dumps([{"op": "add", "path": "/spec/tolerations/-", "value": MEMORY_PRESSURE[0]}])
    assert policies.run(*patch, pressure) == ""
    api.run(*patch, append, "-n", lenient)  # another controller's, as a queue manager's
    own = {"metadata": {"annotations": {"userstorage.dev/base-path": "/files/"}}}
    assert policies.run("patch", "pod", name, "-p", json.dumps(own)) == ""


def test_running_pod_keeps_the_label_by_which_policies_select_it(
    api: Kubectl, policies: Policies, lenient: str, classes: dict[str, str]
) -> None:
    running = pod(class_name=classes["keys"])
    running["metadata"]["name"] = "labelled"
    assert policies.run("create", "-f", "-", manifest=running) == ""
    for value in (None, "helm"):
        lost = json.dumps({"metadata": {"labels": {"userstorage.dev/managed-by": value}}})
        assert "userstorage.dev/managed-by" in policies.run("patch", "pod", "labelled", "-p", lost)
    api.run("patch", "pod", "labelled", "-n", lenient, "-p", lost)
    restored = json.dumps({"metadata": {"labels": {"userstorage.dev/managed-by": "userstorage-operator"}}})
    assert policies.run("patch", "pod", "labelled", "-p", restored) == ""


def test_key_of_another_controller_does_not_block_an_update(api: Kubectl, policies: Policies, lenient: str) -> None:
    running = pod()
    running["metadata"]["name"] = "networked"
    assert policies.run("create", "-f", "-", manifest=running) == ""
    network = {"metadata": {"annotations": {"k8s.v1.cni.cncf.io/network-status": "[]"}}}
    api.run("patch", "pod", "networked", "-n", lenient, "-p", json.dumps(network))
    own = {"metadata": {"annotations": {"userstorage.dev/base-path": "/files/"}}}
    assert policies.run("patch", "pod", "networked", "-p", json.dumps(own)) == ""


def test_unknown_class_is_refused_if_role_lists_classes(api: Kubectl, policies: Policies, classes: dict[str, str]) -> None:
    invented = pod(OTHER, "invented")
    for name, class_name in (("of-keys", classes["keys"]), ("of-plain", classes["plain"])):
        running = pod(FILEBROWSER if name == "of-keys" else copyparty.IMAGE, class_name)
        running["metadata"]["name"] = name
        assert policies.run("create", "-f", "-", manifest=running) == ""
    assert policies.refusal(invented) == ""  # the default, as documented in docs/security.md
    narrow: Unstructured = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "userstorage-operator-classes"},
        "rules": [
            {
                "apiGroups": ["userstorage.dev"],
                "resources": ["userstorageclasses"],
                "verbs": ["use"],
                "resourceNames": list(classes.values()),
            }
        ],
    }
    api.apply(narrow)
    try:
        eventually(lambda: "may not use the class invented" in policies.refusal(invented))
        assert policies.refusal(pod(OTHER, classes["own"])) == ""
        renamed = {"metadata": {"annotations": {"userstorage.dev/class": "invented"}, "labels": {"component": "api"}}}
        assert "may not use the class invented" in policies.run("patch", "pod", "of-keys", "-p", json.dumps(renamed))
        own = {"metadata": {"annotations": {"userstorage.dev/base-path": "/files/"}}}
        listed = {"metadata": {"annotations": {"userstorage.dev/class": classes["plain"]}}}
        for update in (own, listed):  # the second, of a pod whose new class asks for the same pod
            assert policies.run("patch", "pod", "of-keys", "-p", json.dumps(update)) == ""
        narrow["rules"][0]["resourceNames"] = [classes["own"]]
        api.apply(narrow)
        eventually(lambda: "may not use the class" in policies.refusal(pod(class_name=classes["keys"])))
        assert policies.run("patch", "pod", "of-plain", "-p", json.dumps(own)) == ""
    finally:
        api.run("apply", "-k", str(ROOT / "deploy/admission"))
        eventually(lambda: policies.refusal(invented) == "")


def test_running_pod_keeps_image_and_containers(api: Kubectl, policies: Policies, lenient: str) -> None:
    assert policies.run("create", "-f", "-", manifest=pod()) == ""
    image = {"spec": {"containers": [{"name": "filebrowser", "image": OTHER}]}}
    assert "never changes" in policies.run("patch", "pod", "user-storage-alice", "-p", json.dumps(image))
    label = {"metadata": {"labels": {"app": "filebrowser"}}}
    assert policies.run("patch", "pod", "user-storage-alice", "-p", json.dumps(label)) == ""
    # deploy/rbac grants no right to ephemeral containers, so the test grants it, as an administrator might by mistake.
    debug = ["debug", "user-storage-alice", f"--image={FILEBROWSER}", "--profile=restricted"]
    api.run("create", "role", "debug", "--verb=patch", "--resource=pods/ephemeralcontainers", "-n", lenient)
    api.run("create", "rolebinding", "debug", "--role=debug", f"--user={ACCOUNT}", "-n", lenient)
    eventually(lambda: "adds none to running pods" in policies.run(*debug))


def test_policies_bind_only_the_operator(api: Kubectl, policies: Policies, lenient: str) -> None:
    shared = modified_pod(("spec", "hostNetwork"), value=True)
    shared["metadata"]["name"] = "shared"
    api.run("create", "--dry-run=server", "-f", "-", "-n", lenient, input=json.dumps(shared))


@pytest.fixture
def class_policy(api: Kubectl) -> Iterator[None]:
    """The policy of docs/security.md that keeps a class for some namespaces."""
    text = (ROOT / "docs/security.md").read_text()
    [manifest] = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "name: userstorage-classes" in block]
    api.run("apply", "-f", "-", input=manifest)
    yield
    api.run("delete", "-f", "-", input=manifest)


def test_class_can_be_kept_for_labelled_namespaces(api: Kubectl, lenient: str, class_policy: None) -> None:
    def refusal(class_name: str | None) -> str:
        spec = {"userID": "alice"} | ({"className": class_name} if class_name else {})
        alice = {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": "alice"}, "spec": spec}
        done = api.run("create", "--dry-run=server", "-n", lenient, "-f", "-", input=json.dumps(alice), check=False)
        return done.stderr if done.returncode else ""

    eventually(lambda: "spec.className: the class tools is for namespaces" in refusal("tools"))
    assert refusal("other") == ""
    assert refusal(None) == ""
    api.run("label", "namespace", lenient, "example.org/tools=true")
    eventually(lambda: refusal("tools") == "")
