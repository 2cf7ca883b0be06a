"""This version takes over the objects of every released version: it deletes no pod and makes no needless write.

0.1.0 is the first release, so it stands in for its own predecessor; `make release-fixtures` adds the next version. If another
version makes other pods, their users are interrupted within the budget of their class: seen with objects of a commit before 0.1.0.
"""

import copy
import json
import math
import uuid
from collections import Counter
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT, install_manifests
from support.availability import max_unavailable, recorded_pod_events
from support.kubectl import PATIENCE, WAIT, Kubectl, eventually
from support.live import condition_of
from support.operator_account import ACCOUNT, Login, Request, changing_owners, log_in, requests
from support.operator_process import OperatorProcess
from support.released import SERVED, UNRELEASED, VERSIONS, ReleasedObjects, phases, pods, until_phases
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.browsers import copyparty

pytestmark = [pytest.mark.kwok]

REPORTED = {"userstorages/status", "userstorageclasses/status", "events"}
"""Resources that a takeover may write: pods created for the test became ready at another time than the released status says."""


@pytest.fixture
def login(api: Kubectl, tmp_path: Path) -> Login:
    return log_in(api, tmp_path)


@pytest.fixture
def operator(api: Kubectl, login: Login, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator that the test starts after it has created the leftovers; at the end, it serves the deletion of all users."""
    with OperatorProcess(login.kubeconfig, tmp_path / "operator.log", f"--namespace={namespace}") as process:
        yield process
        with changing_owners(api):
            api.run("delete", "us", "--all", "-n", namespace, "--wait=false")
            eventually(lambda: not api.list_all("us", namespace))
    api.delete("usc", "released")


def writes(api: Kubectl, login: Login) -> list[Request]:
    return [request for request in requests(api, login.credential) if request.is_write]


def takeover_writes(api: Kubectl, login: Login, namespace: str, left: ReleasedObjects, before: dict[str, str]) -> list[Request]:
    """Wait for the phases of all users; return the operator's writes. Fails if a pod was created or deleted."""
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
    # A corrected ready time in the status shows that the user has been reconciled.
    ready = [name for name, phase in left.phases().items() if phase == "Ready"]
    eventually(lambda: users_with_true_ready_time(api, namespace) >= set(ready), every=0.5)
    done = takeover_writes(api, login, namespace, left, before)
    assert {write.resource for write in done} <= REPORTED
    assert len(done) <= len(left.users) + 1  # one status write for each user, and one for the class


def users_with_true_ready_time(api: Kubectl, namespace: str) -> set[str]:
    """Return the names of users whose status has the actual ready time of their pod."""
    found = api.list_all("us", namespace)
    return {raw["metadata"]["name"] for raw in found if raw["status"].get("readyTime", "") > "2026-01-31T12:00:00Z"}


def without_status(raw: Unstructured) -> Unstructured:
    """Return the object without a status, as before any operator wrote one."""
    return {key: value for key, value in raw.items() if key != "status"}


def with_less(raw: Unstructured) -> Unstructured:
    """Return the object as of an older version that lacked some conditions, status fields, annotations and labels."""
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
    return without_label(older)


UNLABELLED = "userId,!userstorage.dev/managed-by"


def without_label(raw: Unstructured) -> Unstructured:
    """Return the child as of an older version that had no label of its own domain, under a policy on the recommended one."""
    older = copy.deepcopy(raw)
    if older["metadata"].get("labels", {}).pop("userstorage.dev/managed-by", None):
        older["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "platform"
    return older


@pytest.mark.parametrize("age", [without_status, with_less])
def test_fields_of_newer_version_are_added_without_restarting_pods(
    api: Kubectl, namespace: str, operator: OperatorProcess, login: Login, age: Callable[[Unstructured], Unstructured]
) -> None:
    left = ReleasedObjects(VERSIONS[-1], age=age)
    left.create_in(api, namespace)
    before = pods(api, namespace)
    operator.start()
    expected = ReleasedObjects(VERSIONS[-1])
    takeover_writes(api, login, namespace, expected, before)
    for raw, released in zip(by_name(api.list_all("us", namespace)), by_name(expected.users), strict=True):
        assert raw["metadata"]["finalizers"] == ["userstorage.dev/pod-gone"]
        assert raw["status"].keys() == released["status"].keys()
        assert raw["status"]["slug"] == released["status"]["slug"]
        assert condition_of(raw, "Stalled") == ("False", "NotStalled")


CHILDREN = {"networkpolicies": 5, "services": 5, "ingresses": 1, "pods": 4, "persistentvolumeclaims": 4}
"""Number of children of the users, by resource; dave names a claim of his own."""


def test_children_are_labelled_by_one_write_each(api: Kubectl, namespace: str, operator: OperatorProcess, login: Login) -> None:
    left = ReleasedObjects(VERSIONS[-1], age=without_label)
    left.create_in(api, namespace)
    api.run("patch", "us", "alice", "-n", namespace, "--type=merge", "-p", '{"spec":{"replicas":0}}')
    before = pods(api, namespace)
    operator.start()
    until_phases(api, namespace, left.phases() | {"alice": "Suspended"})
    assert before.pop("user-storage-alice")
    eventually(lambda: pods(api, namespace) == before)  # the phase is Suspended while the pod still terminates

    def unlabelled() -> str:
        return str(api.run("get", ",".join(CHILDREN), "-n", namespace, "-l", UNLABELLED, "-o", "name").stdout)

    eventually(lambda: not unlabelled())
    done = Counter((write.verb, write.resource) for write in writes(api, login) if write.resource not in REPORTED)
    assert done == {("patch", resource): count for resource, count in CHILDREN.items()} | {("delete", "pods"): 1}


def test_new_default_flavor_reaches_users_within_the_rollout_budget(
    api: Kubectl, namespace: str, operator: OperatorProcess, tmp_path: Path
) -> None:
    # At 96d03da, the built-in class ran File Browser.
    left = ReleasedObjects("96d03da", copies=29, parent=UNRELEASED)
    left.create_in(api, namespace)
    before = pods(api, namespace)
    built_in = {raw["metadata"]["name"] for raw in left.users if "className" not in raw["spec"]}
    replaced = {f"user-storage-{name}" for name in built_in} & before.keys()
    with recorded_pod_events(api, namespace, tmp_path / "pods.json"):
        operator.start()
        eventually(lambda: browser_images(api, namespace, replaced) == {copyparty.IMAGE}, within=3 * PATIENCE, every=1)
        eventually(lambda: {phases(api, namespace).get(name) for name in built_in} == {"Ready", "Suspended"}, every=0.5)
    assert max_unavailable(tmp_path / "pods.json", replaced) in range(1, math.ceil(len(replaced) / 10) + 1)
    after = pods(api, namespace)
    assert not {name for name in replaced if after[name] == before[name]}
    assert {name: after[name] for name in after.keys() - replaced} == {name: before[name] for name in before.keys() - replaced}


def browser_images(api: Kubectl, namespace: str, names: Container[str]) -> set[str]:
    """Return the images of these pods' browsers."""
    found = [raw for raw in api.list_all("pods", namespace) if raw["metadata"]["name"] in names]
    return {raw["spec"]["containers"][0]["image"] for raw in found}


SLUG = "userstorage.dev/slug"


def selected_by_former_labels(raw: Unstructured) -> Unstructured:
    """Return the object as of a build that selected pods by `app` and `userId`, and did not record who may reach them."""
    older = copy.deepcopy(raw)
    slug, spec = older["metadata"].get("labels", {}).pop(SLUG, None), older["spec"]
    for annotation in ("userstorage.dev/sources-hash", "userstorage.dev/exposure-hash", "userstorage.dev/run-as"):
        older["metadata"].get("annotations", {}).pop(annotation, None)
    if older["kind"] == "Service":
        spec["selector"] = {"app": "filebrowser", "userId": slug}
    if older["kind"] == "NetworkPolicy":
        spec["podSelector"] = {"matchLabels": {"app": "filebrowser", "userId": slug}}
    return older


def test_pods_are_never_without_their_policy_while_they_get_a_new_label(
    api: Kubectl, namespace: str, operator: OperatorProcess, login: Login
) -> None:
    left = ReleasedObjects(VERSIONS[-1], age=selected_by_former_labels)
    left.create_in(api, namespace)
    before = pods(api, namespace)
    operator.start()

    def all_use_the_label() -> bool:
        policies = api.list_all("networkpolicies", namespace)  # before the pods, which only get labels
        labels = {raw["metadata"]["name"]: raw["metadata"]["labels"] for raw in api.list_all("pods", namespace)}
        selectors = {raw["metadata"]["name"]: raw["spec"]["podSelector"]["matchLabels"] for raw in policies}
        assert all(selectors[name].items() <= labels[name].items() for name in labels)
        return all(SLUG in selector for selector in selectors.values())

    eventually(all_use_the_label, every=0.2)
    eventually(lambda: all(SLUG in raw["spec"]["selector"] for raw in api.list_all("services", namespace)))  # right after them
    takeover_writes(api, login, namespace, left, before)


def by_name(objects: list[Unstructured]) -> list[Unstructured]:
    return sorted(objects, key=lambda raw: str(raw["metadata"]["name"]))


@pytest.fixture
def newer_definitions(api: Kubectl) -> Iterator[Callable[[], None]]:
    """A function that installs the CRD of a future version: one more field in spec and status, one more value of two enums."""

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


def with_future_fields(raw: Unstructured) -> Unstructured:
    newer = copy.deepcopy(raw)
    if newer["kind"] == "UserStorage":
        newer["spec"]["future"] = newer["status"]["future"] = "bright"
    if newer["metadata"]["name"] == "erin":
        newer["status"]["phase"] = "Dreaming"
    if newer["metadata"]["name"] == "bob":
        newer["spec"]["lifecycle"]["updateStrategy"] = "Nightly"
    return newer


def test_downgrade_and_upgrade_restart_no_pod(
    api: Kubectl, namespace: str, operator: OperatorProcess, login: Login, newer_definitions: Callable[[], None]
) -> None:
    # Unknown fields are dropped, a value that cannot be served is reported, and pods are kept.
    newer_definitions()
    left = ReleasedObjects(VERSIONS[-1], age=with_future_fields)
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
    "example.org/note": "of another controller",
}


def test_restored_backup_reaches_the_same_phases(api: Kubectl, namespace: str, operator: OperatorProcess, login: Login) -> None:
    # The backup has users with an old status and foreign annotations, and claims with their files, but no other objects.
    left = ReleasedObjects(VERSIONS[-1])
    users, claims = left.users, [raw for raw in left.children if raw["kind"] == "PersistentVolumeClaim"]
    for raw in users:
        raw["metadata"].setdefault("annotations", {}).update(KOPF)
        raw["status"]["observedGeneration"] = 7
        raw["status"]["podUID"] = str(uuid.uuid4())
    for raw in claims:
        raw["metadata"].pop("ownerReferences", None)  # docs/install.md: otherwise the garbage collector deletes them at once
    api.apply(*left.classes)
    create(api, namespace, claims)
    api.run("wait", "pvc", "--all", "-n", namespace, "--for=jsonpath={.status.phase}=Bound", WAIT)
    volumes = {raw["metadata"]["name"]: raw["spec"]["volumeName"] for raw in api.list_all("pvc", namespace)}
    for raw in users:  # a claim is restored with its volume, under another uid
        storage = raw["status"]["storage"]
        storage |= {"claimUID": str(uuid.uuid4()), "volumeName": volumes[storage["claimName"]]}
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


def test_refused_claim_owner_keeps_deletion_waiting(api: Kubectl, namespace: str, operator: OperatorProcess) -> None:
    # The operator has no right to delete claims.
    [erin] = [raw for raw in ReleasedObjects(VERSIONS[-1]).users if raw["metadata"]["name"] == "erin"]
    assert erin["spec"]["storage"]["reclaimPolicy"] == "Delete"
    create(api, namespace, [erin])
    operator.start()
    eventually(lambda: condition_of(api.get("us", "erin", namespace) or {}, "Ready") == ("True", "PodReady"))
    assert condition_of(api.get("us", "erin", namespace) or {}, "Reconciling") == ("False", "Done")
    api.delete("us", "erin", namespace=namespace)

    def last_error() -> str:
        found = api.get("us", "erin", namespace)
        assert found is not None, "the claim would stay, although its deletion was asked for"
        return str(found["status"].get("lastError", {}).get("message", ""))

    eventually(lambda: "cannot set an ownerRef" in last_error())
    claim = api.get("pvc", "user-storage-erin", namespace)
    assert claim is not None
    assert "deletionTimestamp" not in claim["metadata"]
    with changing_owners(api):
        delete = ["delete", "pvc", "user-storage-erin", "-n", namespace, "--dry-run=server", f"--as={ACCOUNT}"]
        eventually(lambda: api.get("us", "erin", namespace) is None)
        eventually(lambda: api.get("pvc", "user-storage-erin", namespace) is None)
        create(api, namespace, [erin])
        eventually(lambda: api.get("pvc", "user-storage-erin", namespace))
        eventually(lambda: "the operator deletes no claims" in api.run(*delete, check=False).stderr)


def create(api: Kubectl, namespace: str, objects: list[Any]) -> None:
    api.run("create", "-n", namespace, "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
