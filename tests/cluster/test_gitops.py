"""What GitOps tools see: kstatus by its library, Argo CD's health by the interpreter that it embeds, the expressions for Flux by
the library that it evaluates them with, and drift by kubectl's own comparison. All of it on objects of a real API server, in every phase.
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
from support.kubectl import Kubectl, eventually
from support.live import LIFE, condition_of
from support.operator_account import log_in
from support.operator_process import OperatorProcess
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok, pytest.mark.timeout(1200)]  # the libraries' first builds

MODULES = Path(__file__).parent / "go"
[EXPRESSIONS] = yaml.safe_load((ROOT / "deploy/gitops/flux-kustomization.yaml").read_text())["spec"]["healthCheckExprs"]
SCRIPTS = yaml.safe_load((ROOT / "deploy/gitops/argocd-cm.yaml").read_text())["data"]
NOT_OF_THE_SPEC = ("finalizers", "generation", "managedFields", "resourceVersion")
"""Metadata that the API server and controllers write; GitOps tools compare none of it."""


@dataclass(frozen=True)
class Row:
    """An object that comes to be in a phase, and what is seen of it then."""

    phase: str
    kstatus: str
    health: str
    says: str = ""
    """In the message of the health."""
    spec: Unstructured = field(default_factory=dict)
    delete: bool = False
    stalled: bool = False


def life(name: str, **more: Any) -> Unstructured:
    return {"podMetadata": {"annotations": {LIFE: name}}, **more}


EXPOSED = "exposed"
"""Stands for the class that leads in through a Gateway, where none is installed."""
ROWS = {
    "unseen": Row("Pending", "InProgress", "Progressing", "waiting for the operator"),
    "pending": Row("Pending", "InProgress", "Progressing", "claim", {"storage": {"claimName": "missing"}}),
    "starting": Row("Starting", "InProgress", "Progressing", "", life("never-ready")),
    "ready": Row("Ready", "Current", "Healthy", "the browser answers"),
    "crashing": Row("Degraded", "InProgress", "Degraded", "exit code 1", life("crash-loop")),
    "unreachable": Row("Degraded", "Current", "Degraded", "Gateway API", {"className": EXPOSED}),
    "suspended": Row("Suspended", "InProgress", "Suspended", "the data is kept", {"replicas": 0}),
    "late": Row("Failed", "Failed", "Degraded", "not ready 1 s", life("never-ready", lifecycle={"startTimeout": "1s"})),
    "twin": Row("Failed", "Failed", "Degraded", "", {"userID": "ready"}),
    "ending": Row("Terminating", "Terminating", "Progressing", "being deleted", life("slow-termination"), delete=True),
    "stuck": Row(
        "Terminating",
        "Terminating",
        "Degraded",
        "never forced",
        life("slow-termination", lifecycle={"deletionTimeout": "1s"}),
        delete=True,
        stalled=True,
    ),
}


def judge(program: str) -> Callable[[Any], str]:
    built = build_go(GoProgram(program, ".", modules=MODULES), silent)
    return lambda asked: subprocess.run(
        [built], input=json.dumps(asked), capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def kstatus() -> Callable[[Unstructured], str]:
    return judge("kstatus")


@pytest.fixture(scope="module")
def argo() -> Callable[[Unstructured], tuple[str, str]]:
    """Health and message."""
    assess = judge("argohealth")

    def health(raw: Unstructured) -> tuple[str, str]:
        script = SCRIPTS[f"resource.customizations.health.userstorage.dev_{raw['kind']}"]
        status, _, message = assess({"script": script, "object": raw}).partition("\t")
        return status, message

    return health


@pytest.fixture(scope="module")
def flux() -> Callable[[Unstructured], str]:
    """As kstatus has it: what failed, and what is current; all else is on its way."""
    evaluate = judge("fluxhealth")

    def health(raw: Unstructured) -> str:
        for name, status in (("failed", "Failed"), ("current", "Current")):
            if evaluate({"expression": EXPRESSIONS[name], "object": raw}) == "true":
                return status
        return "InProgress"

    return health


@dataclass(frozen=True)
class Place:
    """Where an operator runs that serves all namespaces, and so tells of classes too."""

    api: Kubectl
    namespace: str
    exposed: str
    unseen: Unstructured

    def apply(self, kind: str, name: str, spec: Unstructured) -> None:
        metadata = {"name": name} | ({"namespace": self.namespace} if kind == "UserStorage" else {})
        self.api.apply({"apiVersion": "userstorage.dev/v1", "kind": kind, "metadata": metadata, "spec": spec})

    def get(self, name: str) -> Unstructured:
        command = ["get", "us", name, "-n", self.namespace, "-o", "json", "--show-managed-fields"]
        found: Unstructured = json.loads(self.api.run(*command).stdout)
        return found

    def reach(self, name: str, row: Row) -> Unstructured:
        """The object once it is in that phase."""
        if row.delete:
            self.api.run("wait", "us", name, "-n", self.namespace, "--for=condition=Ready", "--timeout=120s")
            self.api.run("delete", "us", name, "-n", self.namespace, "--wait=false")

        def there() -> Unstructured | None:
            found = self.get(name)
            reached = found.get("status", {}).get("phase") == row.phase
            stalled = condition_of(found, "Stalled")[0] == "True"
            return found if reached and (stalled or not row.stalled) else None

        return eventually(there, every=0.05) or {}


@pytest.fixture(scope="module")
def place(api: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory, name = tmp_path_factory.mktemp("gitops"), f"test-{uuid.uuid4().hex[:8]}"
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    before = Place(api, name, name, {})
    before.apply("UserStorage", "unseen", {"userID": "unseen"})
    here = Place(api, name, name, before.get("unseen"))
    network = {"expose": "Gateway", "gatewayName": "public", "hostTemplate": "${slug}.example.org"}
    here.apply("UserStorageClass", here.exposed, {"network": network})
    process = OperatorProcess(log_in(api, directory).kubeconfig, directory / "operator.log")
    process.start()
    try:
        for row_name, row in ROWS.items():
            spec = {"userID": row_name} | row.spec
            here.apply("UserStorage", row_name, spec | ({"className": name} if "className" in spec else {}))
        yield here
        api.run("delete", "us", "--all", "-n", name, "--wait=false")
        eventually(lambda: not api.list_all("us", name))
    finally:
        process.stop()
        print(process.log.read_text()[-4000:])  # noqa: T201  # shown with a failure
    api.run("delete", "usc", name)
    api.run("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("name", ROWS)
def test_each_phase_is_seen_for_what_it_is(
    place: Place,
    kstatus: Callable[[Unstructured], str],
    argo: Callable[[Unstructured], tuple[str, str]],
    flux: Callable[[Unstructured], str],
    name: str,
) -> None:
    row = ROWS[name]
    raw = place.unseen if name == "unseen" else place.reach(name, row)
    assert kstatus(raw) == row.kstatus
    health, message = argo(raw)
    assert health == row.health
    assert row.says in message
    ending = "Failed" if row.stalled else "InProgress"
    assert flux(raw) == {"Suspended": "Current", "Terminating": ending}.get(row.phase, row.kstatus)


def test_every_phase_is_tried() -> None:
    definition = yaml.safe_load((ROOT / "deploy/crds/userstorage.dev_userstorages.yaml").read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert {row.phase for row in ROWS.values()} == set(schema["properties"]["status"]["properties"]["phase"]["enum"])


def test_a_change_that_the_operator_has_not_seen_is_under_way(
    place: Place,
    kstatus: Callable[[Unstructured], str],
    argo: Callable[[Unstructured], tuple[str, str]],
    flux: Callable[[Unstructured], str],
) -> None:
    for name in ("ready", "late"):
        raw = place.reach(name, ROWS[name])
        raw["metadata"]["generation"] += 1
        assert kstatus(raw) == "InProgress"
        assert argo(raw)[0] == "Progressing"
        assert flux(raw) != "Current"


def test_the_health_of_a_class(place: Place, argo: Callable[[Unstructured], tuple[str, str]]) -> None:
    broken = f"broken-{place.namespace}"
    auth = {"mode": "None", "acknowledgeUnauthenticated": True}
    place.apply("UserStorageClass", broken, {"browser": {"flavor": "Dufs", "permissions": {"share": True}}, "auth": auth})
    try:
        health, message = eventually(lambda: (seen := argo(get_class(place, broken)))[0] == "Degraded" and seen) or ("", "")
        assert (health, "share" in message) == ("Degraded", True)
        eventually(lambda: get_class(place, place.exposed).get("status", {}).get("users"))
        raw = get_class(place, place.exposed)
        assert argo(raw)[0] == "Healthy"
        rolling = copy.deepcopy(raw)
        [entry] = [entry for entry in rolling["status"]["conditions"] if entry["type"] == "Reconciling"]
        entry |= {"status": "True", "message": "7 wait"}
        assert argo(rolling) == ("Progressing", "7 wait")
        assert argo(raw | {"metadata": raw["metadata"] | {"generation": 9}})[0] == "Progressing"
        assert argo({key: value for key, value in raw.items() if key != "status"})[0] == "Healthy"
    finally:
        place.api.run("delete", "usc", broken)


def get_class(place: Place, name: str) -> Unstructured:
    found: Unstructured = json.loads(place.api.run("get", "usc", name, "-o", "json").stdout)
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
def test_nothing_that_the_operator_writes_is_drift(place: Place, tmp_path: Path, how: list[str]) -> None:
    """The operator has set its finalizer and the status; what was applied is still all that a tool compares."""
    names = [f"{kind}-{len(how)}" for kind in ("plain", "full", "idle")]
    specs: list[Unstructured] = [
        {"userID": names[0]},
        FULL | {"userID": f"{names[1]}@example.org"},
        {"userID": names[2], "replicas": 0},
    ]
    items = [
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": name, "namespace": place.namespace, "labels": {"app.kubernetes.io/instance": "users"}},
            "spec": spec,
        }
        for name, spec in zip(names, specs, strict=True)
    ]
    path = tmp_path / "users.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    place.api.run("apply", *how, "-f", str(path))
    for name in names:
        place.reach(name, ROWS["suspended" if name.startswith("idle") else "ready"])

    same = place.api.run("diff", *how, "-f", str(path), check=False)
    assert (same.returncode, same.stdout) == (0, "")
    for name in names:
        live = place.get(name)
        assert live["metadata"]["finalizers"] == ["userstorage.dev/pod-gone"]
        again = place.api.run("apply", *how, "--dry-run=server", "-o", "json", "-f", str(path)).stdout
        [wanted] = [item for item in json.loads(again)["items"] if item["metadata"]["name"] == name]
        assert compared(wanted) == compared(live)
        assert written_by_the_operator(live) == {"metadata.finalizers", "status"}
    # The comparison sees what is different.
    place.api.run(
        "patch",
        "us",
        names[0],
        "-n",
        place.namespace,
        "--type=merge",
        "-p",
        '{"metadata":{"labels":{"app.kubernetes.io/instance":"x"}}}',
    )
    assert place.api.run("diff", *how, *(["--force-conflicts"] if how else []), "-f", str(path), check=False).returncode == 1


def compared(raw: Unstructured) -> Unstructured:
    metadata = {key: value for key, value in raw["metadata"].items() if key not in NOT_OF_THE_SPEC}
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
def test_the_manifests_themselves_do_not_drift(api: Kubectl, part: str) -> None:
    api.run("diff", "-k", str(ROOT / "deploy" / part))
