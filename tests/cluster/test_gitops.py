"""GitOps tools report correct health for objects of a real API server in every phase, and see no drift.

The tests use kstatus' library, the Lua interpreter that Argo CD embeds, the CEL library with which Flux evaluates health checks,
and kubectl diff.
"""

import copy
import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from localcluster.builds import GoProgram, build_go
from localcluster.progress import silent
from support.kubectl import WAIT, Kubectl, eventually
from support.live import ALLOWED, LIFE, condition_of
from support.operator_account import changing_owners, log_in
from support.operator_process import OperatorProcess
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok, pytest.mark.timeout(1200)]  # the libraries' first builds

MODULES = Path(__file__).parent / "go"
[EXPRESSIONS] = yaml.safe_load((ROOT / "deploy/gitops/flux-kustomization.yaml").read_text())["spec"]["healthCheckExprs"]
SCRIPTS = yaml.safe_load((ROOT / "deploy/gitops/argocd-cm.yaml").read_text())["data"]
ACTIONS = yaml.safe_load(SCRIPTS["resource.customizations.actions.userstorage.dev_UserStorage"])
SERVER_FIELDS = ("finalizers", "generation", "managedFields", "resourceVersion")
"""Metadata that the API server and controllers write; GitOps tools do not compare it."""


@dataclass(frozen=True)
class HealthCase:
    """A UserStorage that reaches a phase, and the health that each tool must report then."""

    phase: str
    kstatus: str
    health: str
    message: str = ""
    """Text that Argo CD's health message must contain."""
    spec: Unstructured = field(default_factory=dict)
    delete: bool = False
    stalled: bool = False


def life(name: str, **more: Any) -> Unstructured:
    return {"className": LAB, "podMetadata": {"annotations": {LIFE: name}}, **more}


EXPOSED = "exposed"
"""Placeholder for the class that exposes its users through a Gateway, whose API is not installed."""
LAB = "lab"
"""Placeholder for the class that lets its users set what the tests need."""
CASES = {
    "unseen": HealthCase("Pending", "InProgress", "Progressing", "waiting for the operator"),
    "pending": HealthCase("Pending", "InProgress", "Progressing", "claim", {"storage": {"claimName": "missing"}}),
    "starting": HealthCase("Starting", "InProgress", "Progressing", "", life("never-ready")),
    "ready": HealthCase("Ready", "Current", "Healthy", "the browser answers"),
    "crashing": HealthCase("Degraded", "InProgress", "Degraded", "exit code 1", life("crash-loop")),
    "unreachable": HealthCase("Degraded", "Current", "Degraded", "Gateway API", {"className": EXPOSED}),
    "suspended": HealthCase("Suspended", "InProgress", "Suspended", "the data is kept", {"replicas": 0}),
    "late": HealthCase(
        "Failed", "Failed", "Degraded", "not been ready for 1 s", life("never-ready", lifecycle={"startTimeout": "1s"})
    ),
    "twin": HealthCase("Failed", "Failed", "Degraded", "", {"userID": "ready"}),
    "ending": HealthCase("Terminating", "Terminating", "Progressing", "being deleted", life("slow-termination"), delete=True),
    "stuck": HealthCase(
        "Terminating",
        "Terminating",
        "Degraded",
        "never force-deleted",
        life("slow-termination", lifecycle={"deletionTimeout": "1s"}),
        delete=True,
        stalled=True,
    ),
}


def evaluator(program: str) -> Callable[[Any], str]:
    built = build_go(GoProgram(program, ".", modules=MODULES), silent)
    return lambda asked: subprocess.run(
        [built], input=json.dumps(asked), capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def kstatus() -> Callable[[Unstructured], str]:
    return evaluator("kstatus")


@pytest.fixture(scope="module")
def argo() -> Callable[[Unstructured], tuple[str, str]]:
    """A function that returns Argo CD's health and message of an object."""
    run = evaluator("argohealth")

    def health(raw: Unstructured) -> tuple[str, str]:
        script = SCRIPTS[f"resource.customizations.health.userstorage.dev_{raw['kind']}"]
        found = json.loads(run({"script": script, "object": raw}))
        return found["status"], found["message"]

    return health


@pytest.fixture(scope="module")
def enabled_actions() -> Callable[[Unstructured], set[str]]:
    """A function that returns the actions that Argo CD offers for a UserStorage."""
    run = evaluator("argohealth")

    def enabled(raw: Unstructured) -> set[str]:
        found = json.loads(run({"script": ACTIONS["discovery.lua"], "object": raw}))
        assert found.keys() == {entry["name"] for entry in ACTIONS["definitions"]}
        return {name for name, action in found.items() if not action["disabled"]}

    return enabled


@pytest.fixture(scope="module")
def act() -> Callable[[Unstructured, str], Unstructured]:
    """A function that returns the merge patch by which an action of Argo CD changes a UserStorage."""
    run = evaluator("argohealth")

    def patch(raw: Unstructured, name: str) -> Unstructured:
        [script] = [entry["action.lua"] for entry in ACTIONS["definitions"] if entry["name"] == name]
        changed = json.loads(run({"script": script, "object": raw}))
        metadata = {"annotations": changed["metadata"].get("annotations") or {}}
        return {"metadata": metadata, "spec": {"replicas": int(changed["spec"]["replicas"])}}

    return patch


@pytest.fixture(scope="module")
def flux() -> Callable[[Unstructured], str]:
    """A function that returns Flux' health of an object as a kstatus value: Failed, Current or InProgress."""
    evaluate = evaluator("fluxhealth")

    def health(raw: Unstructured) -> str:
        for name, status in (("failed", "Failed"), ("current", "Current")):
            if evaluate({"expression": EXPRESSIONS[name], "object": raw}) == "true":
                return status
        return "InProgress"

    return health


@dataclass(frozen=True)
class ServedNamespace:
    """A namespace with an operator that serves all namespaces, and so writes the status of classes too."""

    api: Kubectl
    namespace: str
    exposed: str
    unseen: Unstructured

    @property
    def lab(self) -> str:
        return f"{self.exposed}-lab"

    def apply(self, kind: str, name: str, spec: Unstructured) -> None:
        metadata = {"name": name} | ({"namespace": self.namespace} if kind == "UserStorage" else {})
        self.api.apply({"apiVersion": "userstorage.dev/v1", "kind": kind, "metadata": metadata, "spec": spec})

    def get(self, name: str) -> Unstructured:
        command = ["get", "us", name, "-n", self.namespace, "-o", "json", "--show-managed-fields"]
        found: Unstructured = json.loads(self.api.run(*command).stdout)
        return found

    def until_phase(self, name: str, row: HealthCase) -> Unstructured:
        """Wait until the object is in the case's phase, deleting it first if the case says so; return the object."""
        if row.delete:
            self.api.run("wait", "us", name, "-n", self.namespace, "--for=condition=Ready", WAIT)
            self.api.delete("us", name, namespace=self.namespace)

        def object_in_phase() -> Unstructured | None:
            found = self.get(name)
            status = found.get("status", {})
            # Before the operator has seen it, the phase is that of the schema's default status: Pending.
            reached = "observedGeneration" in status and status["phase"] == row.phase
            stalled = condition_of(found, "Stalled")[0] == "True"
            return found if reached and (stalled or not row.stalled) else None

        return eventually(object_in_phase, every=0.05) or {}


@pytest.fixture(scope="module")
def served(api: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedNamespace]:
    directory, name = tmp_path_factory.mktemp("gitops"), f"test-{uuid.uuid4().hex[:8]}"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    before = ServedNamespace(api, name, name, {})
    before.apply("UserStorage", "unseen", {"userID": "unseen"})
    here = ServedNamespace(api, name, name, before.get("unseen"))
    network = {"expose": "Gateway", "gateway": {"name": "public"}, "hostTemplate": "${slug}.example.org"}
    here.apply("UserStorageClass", here.exposed, {"network": network})
    scheduling = {"allowed": {"nodeSelector": ["kubernetes.io/os"], "tolerations": ["spot"]}}
    pod_metadata = ALLOWED
    here.apply("UserStorageClass", here.lab, {"podMetadata": pod_metadata, "scheduling": scheduling})
    with OperatorProcess(log_in(api, directory).kubeconfig, directory / "operator.log") as process:
        process.start()
        for row_name, row in CASES.items():
            spec = {"userID": row_name} | row.spec
            named = {"className": {EXPOSED: here.exposed, LAB: here.lab}[spec["className"]]} if "className" in spec else {}
            here.apply("UserStorage", row_name, spec | named)
        yield here
        with changing_owners(api):
            api.run("delete", "us", "--all", "-n", name, "--wait=false")
            eventually(lambda: not api.list_all("us", name))
    api.delete("usc", name, here.lab)
    api.delete("namespace", name)


@pytest.mark.parametrize("name", CASES)
def test_gitops_tools_report_health_of_each_phase(
    served: ServedNamespace,
    kstatus: Callable[[Unstructured], str],
    argo: Callable[[Unstructured], tuple[str, str]],
    flux: Callable[[Unstructured], str],
    name: str,
) -> None:
    row = CASES[name]
    raw = served.unseen if name == "unseen" else served.until_phase(name, row)
    assert kstatus(raw) == row.kstatus
    health, message = argo(raw)
    assert health == row.health
    assert row.message in message
    ending = "Failed" if row.stalled else "InProgress"
    assert flux(raw) == {"Suspended": "Current", "Terminating": ending}.get(row.phase, row.kstatus)


def test_argo_reports_a_paused_object_as_suspended(
    served: ServedNamespace, argo: Callable[[Unstructured], tuple[str, str]]
) -> None:
    raw = served.until_phase("ready", CASES["ready"])
    [entry] = [entry for entry in raw["status"]["conditions"] if entry["type"] == "Paused"]
    assert entry["status"] == "False"
    entry |= {"status": "True", "message": "nothing is changed"}
    assert argo(raw) == ("Suspended", "nothing is changed")
    del raw["status"]["observedGeneration"]
    assert argo(raw) == ("Suspended", "nothing is changed")


def test_actions_of_argo_suspend_resume_and_restart(
    served: ServedNamespace,
    enabled_actions: Callable[[Unstructured], set[str]],
    act: Callable[[Unstructured, str], Unstructured],
) -> None:
    served.apply("UserStorage", "acted", {"userID": "acted"})

    def run(action: str, phase: str) -> None:
        raw = served.until_phase("acted", HealthCase("Suspended" if phase == "Ready" else "Ready", "", ""))
        assert action in enabled_actions(raw)
        patch = json.dumps(act(raw, action))
        served.api.run("patch", "us", "acted", "-n", served.namespace, "--type=merge", "-p", patch)
        served.until_phase("acted", HealthCase(phase, "", ""))

    run("suspend", "Suspended")
    assert enabled_actions(served.get("acted")) == {"resume"}
    run("resume", "Ready")
    raw = served.get("acted")
    assert enabled_actions(raw) == {"suspend", "restart"}
    pod = served.api.get("pod", "user-storage-acted", served.namespace)
    served.api.run("patch", "us", "acted", "-n", served.namespace, "--type=merge", "-p", json.dumps(act(raw, "restart")))

    def is_another_pod() -> bool:
        found = served.api.get("pod", "user-storage-acted", served.namespace)
        return found is not None and pod is not None and found["metadata"]["uid"] != pod["metadata"]["uid"]

    eventually(is_another_pod)
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert enabled_actions(raw) == set()


def test_link_of_argo_leads_to_the_address_in_the_status() -> None:
    [link] = yaml.safe_load(SCRIPTS["resource.links"])
    definition = yaml.safe_load((ROOT / "deploy/crds/userstorage.dev_userstorages.yaml").read_text())
    assert "url" in definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]
    assert link["url"] == "{{ .resource.status.url }}"
    kind = f'resource.kind == "{definition["spec"]["names"]["kind"]}"'
    assert kind in link["if"]
    assert "resource.status?.url != nil" in link["if"]


def test_health_check_cases_cover_every_phase() -> None:
    definition = yaml.safe_load((ROOT / "deploy/crds/userstorage.dev_userstorages.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert {row.phase for row in CASES.values()} == set(schema["properties"]["status"]["properties"]["phase"]["enum"])


def test_change_not_yet_reconciled_is_reported_as_in_progress(
    served: ServedNamespace,
    kstatus: Callable[[Unstructured], str],
    argo: Callable[[Unstructured], tuple[str, str]],
    flux: Callable[[Unstructured], str],
) -> None:
    for name in ("ready", "late"):
        raw = served.until_phase(name, CASES[name])
        raw["metadata"]["generation"] += 1
        assert kstatus(raw) == "InProgress"
        assert argo(raw)[0] == "Progressing"
        assert flux(raw) != "Current"


def test_argo_cd_reports_class_as_degraded_healthy_or_progressing(
    served: ServedNamespace, argo: Callable[[Unstructured], tuple[str, str]]
) -> None:
    broken = f"broken-{served.namespace}"
    auth = {"mode": "None", "acknowledgeUnauthenticated": True}
    served.apply("UserStorageClass", broken, {"browser": {"flavor": "Dufs", "permissions": {"share": True}}, "auth": auth})
    try:
        health, message = eventually(lambda: (seen := argo(get_class(served, broken)))[0] == "Degraded" and seen) or ("", "")
        assert (health, "share" in message) == ("Degraded", True)
        eventually(lambda: get_class(served, served.exposed).get("status", {}).get("users"))
        raw = get_class(served, served.exposed)
        assert argo(raw)[0] == "Healthy"
        rolling = copy.deepcopy(raw)
        [entry] = [entry for entry in rolling["status"]["conditions"] if entry["type"] == "Reconciling"]
        entry |= {"status": "True", "message": "7 wait"}
        assert argo(rolling) == ("Progressing", "7 wait")
        assert argo(raw | {"metadata": raw["metadata"] | {"generation": 9}})[0] == "Progressing"
        assert argo({key: value for key, value in raw.items() if key != "status"})[0] == "Healthy"
    finally:
        served.api.delete("usc", broken)


def get_class(served: ServedNamespace, name: str) -> Unstructured:
    found: Unstructured = json.loads(served.api.run("get", "usc", name, "-o", "json").stdout)
    return found


FULL = {
    "userID": "full@example.org",
    "storage": {"size": 1073741824, "reclaimPolicy": "Delete"},
    "lifecycle": {"startTimeout": "90s"},
    "scheduling": {"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"key": "spot", "operator": "Exists"}]},
    "podMetadata": {"labels": {"team": "blue"}, "annotations": {"example.org/note": "1"}},
}


@pytest.mark.parametrize(
    "how", [["--server-side", "--field-manager=argocd-controller"], []], ids=["server-side", "client-side"]
)
def test_operator_writes_are_not_reported_as_drift(served: ServedNamespace, tmp_path: Path, how: list[str]) -> None:
    # The operator has set its finalizer and the status; tools compare only the applied fields.
    names = [f"{kind}-{len(how)}" for kind in ("plain", "full", "idle")]
    specs: list[Unstructured] = [
        {"userID": names[0]},
        FULL | {"userID": f"{names[1]}@example.org", "className": served.lab},
        {"userID": names[2], "replicas": 0},
    ]
    items = [
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": name, "namespace": served.namespace, "labels": {"app.kubernetes.io/instance": "users"}},
            "spec": spec,
        }
        for name, spec in zip(names, specs, strict=True)
    ]
    path = tmp_path / "users.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    served.api.run("apply", *how, "-f", str(path))
    for name in names:
        served.until_phase(name, CASES["suspended" if name.startswith("idle") else "ready"])

    same = served.api.run("diff", *how, "-f", str(path), check=False)
    assert (same.returncode, same.stdout) == (0, "")
    for name in names:
        live = served.get(name)
        assert live["metadata"]["finalizers"] == ["userstorage.dev/pod-gone"]
        again = served.api.run("apply", *how, "--dry-run=server", "-o", "json", "-f", str(path)).stdout
        [applied] = [item for item in json.loads(again)["items"] if item["metadata"]["name"] == name]
        assert comparable(applied) == comparable(live)
        assert written_by_the_operator(live) == {"metadata.finalizers", "status"}
    # Shows that the comparison detects differences.
    served.api.run(
        "patch",
        "us",
        names[0],
        "-n",
        served.namespace,
        "--type=merge",
        "-p",
        '{"metadata":{"labels":{"app.kubernetes.io/instance":"x"}}}',
    )
    assert served.api.run("diff", *how, *(["--force-conflicts"] if how else []), "-f", str(path), check=False).returncode == 1


def comparable(raw: Unstructured) -> Unstructured:
    metadata = {key: value for key, value in raw["metadata"].items() if key not in SERVER_FIELDS}
    return {"metadata": metadata, "spec": raw["spec"]}


def written_by_the_operator(raw: Unstructured) -> set[str]:
    found = set[str]()
    for entry in raw["metadata"]["managedFields"]:
        if entry["manager"] == "userstorage-operator":
            for top, inner in entry["fieldsV1"].items():
                parts = inner if top == "f:metadata" else {"": None}
                found |= {".".join(part.removeprefix("f:") for part in (top, below) if part) for below in parts}
    return found


@pytest.mark.parametrize("part", ["crds", "rbac", "admission"])
def test_applied_manifests_show_no_drift(api: Kubectl, part: str) -> None:
    api.run("diff", "-k", str(ROOT / "deploy" / part))
