"""This version takes over what every released one left: no pod is ended, and nothing is written that says nothing new.

Nothing has been released before 0.1.0, so that it stands in for its own predecessor; `make release-fixtures` adds the next.
"""

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, install_manifests
from support.kubectl import Kubectl, eventually
from support.live import condition_of
from support.operator_account import ACCOUNT, Login, Request, log_in, requests
from support.operator_process import OperatorProcess
from support.released import SERVED, VERSIONS, ReleasedObjects, pods, until_phases
from userstorage_operator.api.unstructured import Unstructured

pytestmark = [pytest.mark.kwok]

REPORTED = {"userstorages/status", "userstorageclasses/status", "events"}
"""A pod that was made anew for the test became ready at another time than the status says."""


@pytest.fixture
def login(api: Kubectl, tmp_path: Path) -> Login:
    return log_in(api, tmp_path)


@pytest.fixture
def operator(api: Kubectl, login: Login, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """Started by the test, once it finds what others have left; it can serve them all, so that they end with it."""
    process = OperatorProcess(login.kubeconfig, tmp_path / "operator.log", f"--namespace={namespace}")
    yield process
    api.run("delete", "us", "--all", "-n", namespace, "--wait=false")
    eventually(lambda: not api.list_all("us", namespace))
    process.stop()
    api.run("delete", "usc", "released", "--ignore-not-found")
    print(process.log.read_text()[-4000:])  # noqa: T201  # shown with a failure


def writes(api: Kubectl, login: Login) -> list[Request]:
    return [request for request in requests(api, login.credential) if request.is_write]


def takeover_writes(api: Kubectl, login: Login, namespace: str, left: ReleasedObjects, before: dict[str, str]) -> list[Request]:
    """The writes that it took, once each user has been looked at. No pod among them was ended or made."""
    until_phases(api, namespace, left.phases())
    names = {raw["metadata"]["name"] for raw in left.users}
    assert names
    assert pods(api, namespace) == before
    done = writes(api, login)
    assert not [write for write in done if write.resource == "pods" and write.verb != "patch"]
    return done


@pytest.mark.parametrize("version", VERSIONS)
def test_upgrade_restarts_no_pod(
    api: Kubectl, namespace: str, operator: OperatorProcess, login: Login, version: str, request: pytest.FixtureRequest
) -> None:
    left = ReleasedObjects(version, copies=request.config.getoption("--upgrade-objects"))
    left.create_in(api, namespace)
    before = pods(api, namespace)
    assert len(before) == len([phase for phase in left.phases().values() if phase == "Ready"])
    operator.start()
    # Each has its true times told; that is the mark of having been looked at.
    ready = [name for name, phase in left.phases().items() if phase == "Ready"]
    eventually(lambda: users_with_true_ready_time(api, namespace) >= set(ready), every=0.5)
    done = takeover_writes(api, login, namespace, left, before)
    assert {write.resource for write in done} <= REPORTED
    assert len(done) <= len(left.users) + 1  # one for each, and one for the class


def users_with_true_ready_time(api: Kubectl, namespace: str) -> set[str]:
    """Those whose status has the time at which their pod really became ready."""
    found = api.list_all("us", namespace)
    return {raw["metadata"]["name"] for raw in found if raw["status"].get("readyTime", "") > "2026-01-31T12:00:00Z"}


def without_status(raw: Unstructured) -> Unstructured:
    """As before the first operator that told anything."""
    return {key: value for key, value in raw.items() if key != "status"}


def with_less(raw: Unstructured) -> Unstructured:
    """Written before conditions had these types, before the status had these fields, before children had these marks."""
    older = copy.deepcopy(raw)
    if older["kind"] == "UserStorage":
        status = older["status"]
        status["conditions"] = [entry for entry in status["conditions"] if entry["type"] in ("Ready", "Reconciling")]
        for entry in status["conditions"]:
            del entry["observedGeneration"]
        for name in ("slug", "selector", "storage", "appliedHash", "observedGeneration", "podUID"):
            status.pop(name, None)
        older["metadata"].pop("finalizers")
    else:
        for mark in ("userstorage.dev/class", "userstorage.dev/spec-hash"):
            older["metadata"].get("annotations", {}).pop(mark, None)
        older["metadata"]["labels"].pop("userstorage.dev/uid", None)
    return older


@pytest.mark.parametrize("age", [without_status, with_less])
def test_fields_of_newer_version_are_added_without_restart(
    api: Kubectl, namespace: str, operator: OperatorProcess, login: Login, age: Callable[[Unstructured], Unstructured]
) -> None:
    left = ReleasedObjects(VERSIONS[-1], age=age)
    left.create_in(api, namespace)
    before = pods(api, namespace)
    operator.start()
    wanted = ReleasedObjects(VERSIONS[-1])
    takeover_writes(api, login, namespace, wanted, before)
    for raw, released in zip(by_name(api.list_all("us", namespace)), by_name(wanted.users), strict=True):
        assert raw["metadata"]["finalizers"] == ["userstorage.dev/pod-gone"]
        assert raw["status"].keys() == released["status"].keys()
        assert raw["status"]["slug"] == released["status"]["slug"]
        assert condition_of(raw, "Stalled") == ("False", "NotStalled")


def by_name(objects: list[Unstructured]) -> list[Unstructured]:
    return sorted(objects, key=lambda raw: str(raw["metadata"]["name"]))


@pytest.fixture
def newer_definitions(api: Kubectl) -> Iterator[Callable[[], None]]:
    """Makes the definitions of a version that is still to come: a field more in spec and status, a value more of an enum."""

    def upgrade() -> None:
        definition = yaml.safe_load((ROOT / "deploy/crds/userstorage.dev_userstorages.yaml").read_text())
        top = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        for part in ("spec", "status"):
            top[part]["properties"]["future"] = {"type": "string"}
        top["spec"]["properties"]["lifecycle"]["properties"]["updateStrategy"]["enum"].append("Nightly")
        top["status"]["properties"]["phase"]["enum"].append("Dreaming")
        api.run("apply", "-f", "-", input=json.dumps(definition))
        eventually(lambda: "future" in api.run("explain", "userstorage.spec").stdout)

    yield upgrade
    downgrade(api)


def downgrade(api: Kubectl) -> None:
    install_manifests(api)
    eventually(lambda: "future" not in api.run("explain", "userstorage.spec").stdout)


def from_the_future(raw: Unstructured) -> Unstructured:
    newer = copy.deepcopy(raw)
    if newer["kind"] == "UserStorage":
        newer["spec"]["future"] = newer["status"]["future"] = "bright"
    if newer["metadata"]["name"] == "erin":
        newer["status"]["phase"] = "Dreaming"
    if newer["metadata"]["name"] == "bob":
        newer["spec"]["lifecycle"]["updateStrategy"] = "Nightly"
    return newer


def test_downgrade_and_upgrade_keep_pods(
    api: Kubectl, namespace: str, operator: OperatorProcess, login: Login, newer_definitions: Callable[[], None]
) -> None:
    """What this version does not know is dropped, or told where it cannot be served; pods are left alone."""
    newer_definitions()
    left = ReleasedObjects(VERSIONS[-1], age=from_the_future)
    left.create_in(api, namespace)
    assert all(raw["status"]["future"] == "bright" for raw in api.list_all("us", namespace))
    before = pods(api, namespace)
    downgrade(api)
    operator.start()
    until_phases(api, namespace, ReleasedObjects(VERSIONS[-1]).phases() | {"bob": "Failed"})
    for raw in api.list_all("us", namespace):
        assert "future" not in raw["spec"]
        assert "future" not in raw["status"]
    bob = api.get("us", "bob", namespace)
    assert bob is not None
    assert condition_of(bob, "Stalled") == ("True", "InvalidSpec")
    assert condition_of(bob, "Ready") == ("True", "PodReady")
    assert pods(api, namespace) == before
    newer_definitions()
    patch = {"spec": {"future": "again", "lifecycle": {"updateStrategy": "Immediate"}}}
    api.run("patch", "us", "bob", "-n", namespace, "--type=merge", "-p", json.dumps(patch))
    until_phases(api, namespace, ReleasedObjects(VERSIONS[-1]).phases())
    assert pods(api, namespace) == before
    assert not [write for write in writes(api, login) if write.resource == "pods"]


KOPF = {
    "kopf.zalando.org/last-handled-configuration": '{"spec":{"userID":"other"}}\n',
    "kopf.zalando.org/alice": '{"started":"2026-01-31T12:00:00","retries":3}',
    "example.org/note": "of somebody else",
}


def test_restored_backup_converges(api: Kubectl, namespace: str, operator: OperatorProcess, login: Login) -> None:
    """Users with an old status and annotations of others, claims as the files are in them, nothing else."""
    left = ReleasedObjects(VERSIONS[-1])
    users, claims = left.users, [raw for raw in left.children if raw["kind"] == "PersistentVolumeClaim"]
    for raw in users:
        raw["metadata"].setdefault("annotations", {}).update(KOPF)
        raw["status"]["observedGeneration"] = 7
        raw["status"]["podUID"] = str(uuid.uuid4())
    for raw in claims:
        raw["metadata"].pop("ownerReferences", None)  # docs/install.md: else the garbage collector takes them at once
    api.apply(*left.classes)
    create(api, namespace, claims)
    create(api, namespace, users)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": users})
    api.run("replace", "-n", namespace, "-f", "-", "--subresource=status", input=listed)
    kept = {raw["metadata"]["name"]: raw["metadata"]["uid"] for raw in api.list_all("pvc", namespace)}

    operator.start()
    until_phases(api, namespace, left.phases())
    for raw in api.list_all("us", namespace):
        assert raw["metadata"]["annotations"].items() >= KOPF.items()
        assert raw["status"]["observedGeneration"] == raw["metadata"]["generation"]
        served = raw["metadata"]["name"] in SERVED
        assert raw["status"].get("podUID") == pods(api, namespace).get(f"user-storage-{raw['status']['slug']}")
        assert ("podUID" in raw["status"]) == served
    assert {raw["metadata"]["name"]: raw["metadata"]["uid"] for raw in api.list_all("pvc", namespace)} == kept


@pytest.fixture
def may_change_owners(api: Kubectl) -> Iterator[Callable[[], object]]:
    where = str(ROOT / "deploy/owner-references")
    yield lambda: api.run("apply", "-k", where)
    api.run("delete", "-k", where, "--ignore-not-found")


def test_refused_claim_owner_does_not_block_pod(
    api: Kubectl, namespace: str, operator: OperatorProcess, may_change_owners: Callable[[], object]
) -> None:
    """The API server of the tests runs with OwnerReferencesPermissionEnforcement, and the operator may delete no claim."""
    [erin] = [raw for raw in ReleasedObjects(VERSIONS[-1]).users if raw["metadata"]["name"] == "erin"]
    [claim] = [
        raw
        for raw in ReleasedObjects(VERSIONS[-1]).children
        if raw["metadata"]["name"] == "user-storage-erin" and "resources" in raw["spec"]
    ]
    del claim["metadata"]["ownerReferences"]
    create(api, namespace, [claim, erin])
    operator.start()

    def told(condition: str) -> tuple[str, str]:
        return condition_of(api.get("us", "erin", namespace) or {}, condition)

    eventually(lambda: told("Ready") == ("True", "PodReady"))
    assert told("Reconciling") == ("True", "Retrying")
    status = (api.get("us", "erin", namespace) or {})["status"]
    assert "cannot set an ownerRef" in status["lastError"]["message"]
    may_change_owners()
    eventually(lambda: (api.get("pvc", "user-storage-erin", namespace) or {})["metadata"].get("ownerReferences"))
    eventually(lambda: told("Reconciling") == ("False", "Done"))
    delete = ["delete", "pvc", "user-storage-erin", "-n", namespace, "--dry-run=server", f"--as={ACCOUNT}"]
    eventually(lambda: "the operator deletes no claims" in api.run(*delete, check=False).stderr)


def create(api: Kubectl, namespace: str, objects: list[Any]) -> None:
    api.run("create", "-n", namespace, "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
