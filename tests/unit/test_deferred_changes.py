"""Class changes that are deferred until the pod is replaced."""

from dataclasses import replace
from typing import Any

import pytest

from support.builders import (
    NOW,
    UID,
    class_object,
    desired_of,
    ready_pod,
    settled_snapshot,
    snapshot_of,
    storage_object,
    stored,
)
from userstorage_operator.api import names
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.deferred_changes import (
    current_claim_size,
    ids_of_files,
    keep_current_access,
    served_path,
)
from userstorage_operator.plan.diff import child_patch
from userstorage_operator.plan.exposure import HostPath, served_host
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.pod import deferral
from userstorage_operator.plan.steps import Create, Delete, Patch, Plan
from userstorage_operator.status.network_ready import url
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report
from userstorage_operator.status.storage_ready import storage_ready

EXPOSE: dict[str, Any] = {
    "ingress": {"expose": "Ingress", "hostTemplate": "${slug}.example.org"},
    "http_route": {"expose": "Gateway", "hostTemplate": "${slug}.example.org", "gateway": {"name": "g"}},
}


def class_of(kind: str, **browser: Any) -> UserStorageClass:
    return UserStorageClass.parse(class_object(network=EXPOSE[kind], browser=browser))


def served_by(cls: UserStorageClass) -> Snapshot:
    """Return a snapshot in which every child is as the class wants it."""
    raw, snapshot = storage_object(), settled_snapshot(storage_object())
    desired = desired_of(raw, cls)
    children = {
        field: stored(child)
        for field in ("network_policy", "service", "pod", "ingress", "http_route")
        if (child := getattr(desired, field))
    }
    return replace(snapshot, cls=cls).with_children(replace(snapshot.children, **children))


OTHER_IDS = class_object(security={"runAsUser": 2000, "runAsGroup": 3000, "fsGroup": 4000})


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "earlier-build"])
def test_pod_runs_as_the_owner_of_its_files(recorded: bool) -> None:
    raw, cls = storage_object(), UserStorageClass.parse(OTHER_IDS)
    snapshot = replace(settled_snapshot(raw, UserStorageClass.parse(class_object())), cls=cls)
    claim = snapshot.children.pvc or {}
    if not recorded:
        del claim["metadata"]["annotations"][names.ANNOTATION_RUN_AS]
    planned = plan(snapshot, NOW)
    assert planned.desired is not None
    assert planned.desired.pod["spec"] == desired_of(raw).pod["spec"]
    assert [step.patch for step in planned.steps if isinstance(step, Patch)] == (
        [] if recorded else [{"metadata": {"annotations": {names.ANNOTATION_RUN_AS: "1000:1000:1000"}}}]
    )
    message = storage_ready(Outcome(snapshot, planned.desired, planned, None, NOW)).message
    assert "its files belong to 1000:1000:1000" in message
    assert "2000:3000:4000 of the class" in message


def on_named_claim(cls: UserStorageClass, claim: str = "homes") -> Snapshot:
    """Return a snapshot of alice, settled on the named claim `claim`, with the record that a ready pod leads to."""
    raw = storage_object(storage={"claimName": claim, "subPath": "alice"})
    meta = {"name": claim, "uid": "uid-homes", "labels": {"userstorage.dev/shareable": "Directories"}}
    pvc: Unstructured = {
        "metadata": meta | {"creationTimestamp": "2026-01-31T11:00:00Z"},
        "spec": {"accessModes": ["ReadWriteMany"], "volumeName": "pv", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
    }
    desired = desired_of(raw, cls)
    children = {field: stored(getattr(desired, field)) for field in ("network_policy", "service")}
    return snapshot_of(raw, cls, pvc=pvc, pod=ready_pod(desired.pod), **children)


def service_with(snapshot: Snapshot, record: str | None) -> Unstructured:
    service = snapshot.children.service
    assert service is not None
    annotations = service["metadata"]["annotations"] | ({names.ANNOTATION_RUN_AS: record} if record else {})
    return service | {"metadata": service["metadata"] | {"annotations": annotations}}


OTHER = UserStorageClass.parse(OTHER_IDS)


def test_service_records_the_ids_of_a_ready_pod_on_a_named_claim() -> None:
    snapshot = on_named_claim(BUILT_IN)
    patches = [step.patch for step in plan(snapshot, NOW).steps if isinstance(step, Patch)]
    assert patches == [{"metadata": {"annotations": {names.ANNOTATION_RUN_AS: "homes 1000:1000:1000"}}}]
    recorded = snapshot.with_children(replace(snapshot.children, service=service_with(snapshot, "homes 1000:1000:1000")))
    assert plan(recorded, NOW).steps == ()


@pytest.mark.parametrize("has_pod", [True, False])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_pods_on_a_named_claim_keep_the_ids_that_are_known(has_pod: bool, is_recorded: bool) -> None:
    snapshot = replace(on_named_claim(BUILT_IN), cls=OTHER)
    service = service_with(snapshot, "homes 1000:1000:1000" if is_recorded else None)
    pod = snapshot.children.pod if has_pod else None
    planned = plan(snapshot.with_children(replace(snapshot.children, service=service, pod=pod)), NOW)
    assert planned.desired is not None
    assert planned.pod_deletion is None
    known = has_pod or is_recorded
    assert planned.desired.pod["spec"]["securityContext"]["runAsUser"] == (1000 if known else 2000)


def test_ids_of_a_pod_that_never_served_the_named_claim_are_not_kept() -> None:
    # The class is corrected to what the volume of the claim admits.
    snapshot = replace(on_named_claim(BUILT_IN), cls=OTHER)
    pod = snapshot.children.pod
    assert pod is not None
    crashing = pod | {"status": {"phase": "Running", "conditions": []}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=crashing))
    assert ids_of_files(snapshot) is None
    assert plan(snapshot, NOW).pod_deletion is not None


def test_another_named_claim_belongs_to_the_ids_of_the_class() -> None:
    snapshot = on_named_claim(BUILT_IN)
    archive = on_named_claim(OTHER, "archive")
    service = service_with(snapshot, "homes 1000:1000:1000")
    moved = archive.with_children(replace(archive.children, service=service, pod=snapshot.children.pod))
    assert ids_of_files(moved) is None


@pytest.mark.parametrize("text", ["", "0:0:0", "1000:0:1000", "1000:1000", "\u0661:1:1", "2147483648:1:1", "1:1:1:1", "1:1:x"])
def test_ids_that_no_pod_may_have_are_not_read(text: str) -> None:
    raw, cls = storage_object(), UserStorageClass.parse(OTHER_IDS)
    snapshot = replace(settled_snapshot(raw, cls), cls=cls)
    claim = snapshot.children.pvc or {}
    claim["metadata"]["annotations"][names.ANNOTATION_RUN_AS] = text
    assert ids_of_files(replace(snapshot.with_children(replace(snapshot.children, pod=None)))) is None


def test_new_claim_belongs_to_the_ids_of_the_class() -> None:
    claim = desired_of(storage_object(), UserStorageClass.parse(OTHER_IDS)).pvc
    assert claim is not None
    assert claim["metadata"]["annotations"][names.ANNOTATION_RUN_AS] == "2000:3000:4000"


@pytest.mark.parametrize("paced", [True, False])
@pytest.mark.parametrize("kind", EXPOSE)
def test_outdated_pod_keeps_its_port_and_route(kind: str, paced: bool) -> None:
    snapshot = served_by(class_of(kind))
    newer = desired_of(storage_object(), class_of(kind, port=9999, basePath="/files/"))
    kept, before = keep_current_access(newer, snapshot, paced=paced), desired_of(storage_object(), class_of(kind))
    assert kept.network_policy == before.network_policy
    live = getattr(snapshot.children, kind)
    assert child_patch(getattr(kept, kind), live) == {}
    assert served_host(getattr(kept, kind)) == served_host(getattr(before, kind)) != served_host(getattr(newer, kind))
    assert kept.pod == newer.pod


NO_LOGIN: dict[str, Any] = {"browser": {"flavor": "Dufs"}, "auth": {"mode": "None", "acknowledgeUnauthenticated": True}}
EVERYWHERE: Unstructured = {"namespaceSelector": {}}
GATEWAY = {"namespaceSelector": {"matchLabels": {"gateway": "true"}}}
NODES = {"ipBlock": {"cidr": "10.0.0.0/8"}}
A, B, C = ({"podSelector": {"matchLabels": {"app": name}}} for name in "abc")


def class_without_login(**network: Any) -> UserStorageClass:
    return UserStorageClass.parse(class_object(**NO_LOGIN, network=network))


def class_with_login(paused: bool = False, **network: Any) -> UserStorageClass:
    return UserStorageClass.parse(class_object(browser={"flavor": "Copyparty"}, rollout={"paused": paused}, network=network))


def changed_to(cls: UserStorageClass, snapshot: Snapshot, strategy: str = "Immediate", *, slot: bool = False) -> Snapshot:
    """Return the snapshot after its class was changed to `cls`."""
    storage = snapshot_of(storage_object(lifecycle={"updateStrategy": strategy})).storage
    return replace(snapshot, storage=storage, cls=cls, may_replace=slot)


def applied(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot after the children but the pod were brought to what the plan desires."""
    desired = plan(snapshot, NOW).desired
    assert desired is not None
    fields = ("network_policy", "service", "ingress", "http_route")
    children = {field: stored(child) if (child := getattr(desired, field)) else None for field in fields}
    return snapshot.with_children(replace(snapshot.children, **children))


def sources(snapshot: Snapshot) -> list[Any]:
    desired = plan(snapshot, NOW).desired
    assert desired is not None
    assert desired.network_policy is not None
    [rule] = desired.network_policy["spec"]["ingress"]
    return list(rule["from"])


@pytest.mark.parametrize("kind", EXPOSE)
@pytest.mark.parametrize(
    ("strategy", "slot", "paused", "terminating"),
    [
        ("Immediate", False, False, False),
        ("Immediate", False, True, False),
        ("Immediate", True, False, False),
        ("Immediate", True, False, True),
        ("WhenSuspended", True, False, False),
    ],
    ids=["waits", "paused", "replaced-now", "terminates", "deferred"],
)
def test_class_change_opens_nothing_before_the_pod_is_replaced(
    kind: str, strategy: str, slot: bool, paused: bool, terminating: bool
) -> None:
    cls = class_with_login(paused, **EXPOSE[kind], allowedFrom=[{"namespaceSelector": {}}])
    before = served_by(class_without_login())
    snapshot = changed_to(cls, before, strategy, slot=slot)
    pod = snapshot.children.pod
    assert pod is not None
    if terminating:
        pod = pod | {"metadata": pod["metadata"] | {"deletionTimestamp": "2026-01-31T11:59:50Z"}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=pod))
    assert {step.kind for step in plan(snapshot, NOW).steps if isinstance(step, Create | Patch | Delete)} == set()
    assert sources(snapshot) == sources(before)
    gone = snapshot.with_children(replace(snapshot.children, pod=None))
    granted = plan(gone, NOW).desired
    assert granted is not None
    assert getattr(granted, kind) is not None
    assert sources(gone) == [{"namespaceSelector": {}}]


@pytest.mark.parametrize("kind", EXPOSE)
def test_change_of_access_alone_applies_at_once(kind: str) -> None:
    before = served_by(class_with_login())
    snapshot = changed_to(class_with_login(**EXPOSE[kind], allowedFrom=[A]), before)
    desired = plan(snapshot, NOW).desired
    assert desired is not None
    assert deferral(snapshot, desired) is None
    assert getattr(desired, kind) is not None
    assert sources(snapshot) == [A]
    # The pod records it: its next change of another kind finds these in force.
    [recorded] = [step.patch for step in plan(snapshot, NOW).steps if isinstance(step, Patch) and step.kind is Kind.POD]
    assert recorded["metadata"]["annotations"].keys() == {names.ANNOTATION_EXPOSURE_HASH, names.ANNOTATION_SOURCES_HASH}


@pytest.mark.parametrize("strategy", ["Immediate", "WhenSuspended"])
@pytest.mark.parametrize("kind", EXPOSE)
def test_access_of_an_outdated_pod_is_still_repaired(kind: str, strategy: str) -> None:
    snapshot = changed_to(class_of(kind, image="x:2"), served_by(class_of(kind)), strategy)
    policy = snapshot.children.network_policy
    assert policy is not None
    opened = policy | {"spec": policy["spec"] | {"ingress": [policy["spec"]["ingress"][0] | {"from": [A]}]}}
    edited = snapshot.with_children(replace(snapshot.children, network_policy=opened, ingress=None, http_route=None))
    steps = plan(edited, NOW).steps
    assert [step.kind for step in steps if isinstance(step, Patch)] == [Kind.NETWORK_POLICY]
    assert [step.kind.field for step in steps if isinstance(step, Create)] == [kind]


@pytest.mark.parametrize(
    ("had", "asked", "kept"),
    [
        ([A, B], [A], [A]),
        ([A, B], [B, C], [B]),
        ([A], [A, C], [A]),
        ([A, B], [C], [A, B]),
        ([A, NODES], [{"podSelector": {}}, C], [A]),
        ([A, NODES], [EVERYWHERE], [A]),
        ([GATEWAY | A, B], [GATEWAY], [GATEWAY | A]),
        ([A], [GATEWAY | A], [A]),
    ],
    ids=["narrower", "other", "wider", "none-left", "own-namespace", "everywhere", "all-of-a-namespace", "another-namespace"],
)
def test_deferred_pod_loses_withdrawn_sources_at_once_and_gets_no_new_one(
    had: list[Any], asked: list[Any], kept: list[Any]
) -> None:
    before = served_by(class_without_login(allowedFrom=had))
    snapshot = changed_to(class_with_login(allowedFrom=asked), before, "WhenSuspended")
    assert sources(snapshot) == kept
    assert sources(applied(snapshot)) == kept
    assert sources(changed_to(class_with_login(allowedFrom=asked), before)) == had


@pytest.mark.parametrize("strategy", ["Immediate", "WhenSuspended"])
def test_policy_that_the_class_no_longer_manages_outlives_the_outdated_pod(strategy: str) -> None:
    before = served_by(class_without_login(policy="Managed"))
    for snapshot in (
        changed_to(class_with_login(policy="None"), before, strategy),
        changed_to(class_with_login(policy="None"), before, slot=True),
    ):
        steps = plan(snapshot, NOW).steps
        assert not [step for step in steps if isinstance(step, Delete)]
        gone = snapshot.with_children(replace(snapshot.children, pod=None))
        assert [step.kind for step in plan(gone, NOW).steps if isinstance(step, Delete)] == [Kind.NETWORK_POLICY]
    current = changed_to(class_without_login(policy="None"), before)
    assert [step.kind for step in plan(current, NOW).steps if isinstance(step, Delete)] == [Kind.NETWORK_POLICY]


def test_policy_that_is_kept_stays_closed() -> None:
    snapshot = changed_to(class_with_login(policy="None"), served_by(class_without_login()))
    policy = snapshot.children.network_policy
    assert policy is not None
    opened = policy | {"spec": policy["spec"] | {"egress": [{}]}}
    snapshot = snapshot.with_children(replace(snapshot.children, network_policy=opened))
    assert [step.patch for step in plan(snapshot, NOW).steps if isinstance(step, Patch)] == [{"spec": {"egress": None}}]


def test_policy_of_an_orphaned_outdated_pod_is_adopted() -> None:
    before = served_by(class_without_login(policy="Managed"))
    policy = before.children.network_policy
    assert policy is not None
    orphan = policy | {"metadata": {key: value for key, value in policy["metadata"].items() if key != "ownerReferences"}}
    snapshot = changed_to(class_with_login(policy="None"), before)
    snapshot = snapshot.with_children(replace(snapshot.children, network_policy=orphan))
    [patch] = [step.patch for step in plan(snapshot, NOW).steps if isinstance(step, Patch)]
    assert [owner["uid"] for owner in patch["metadata"]["ownerReferences"]] == [UID]


def test_ingress_that_is_kept_keeps_paths_and_owners_of_other_controllers() -> None:
    snapshot = changed_to(class_with_login(**EXPOSE["ingress"], allowedFrom=[A]), served_by(class_of("ingress")))
    snapshot = replace(snapshot, cls=class_of("ingress", basePath="/files/"))
    ingress = snapshot.children.ingress
    assert ingress is not None
    solver = {"path": "/.well-known/acme-challenge/x", "pathType": "Exact", "backend": {"service": {"name": "solver"}}}
    [rule] = ingress["spec"]["rules"]
    rule = rule | {"http": {"paths": [solver, *rule["http"]["paths"]]}}
    owners = [*ingress["metadata"]["ownerReferences"], {"uid": "other", "kind": "Certificate"}]
    shared = ingress | {
        "metadata": ingress["metadata"] | {"ownerReferences": owners},
        "spec": ingress["spec"] | {"rules": [rule]},
    }
    snapshot = snapshot.with_children(replace(snapshot.children, ingress=shared))
    assert plan(snapshot, NOW).steps == ()


@pytest.mark.parametrize("kind", EXPOSE)
@pytest.mark.parametrize("reason", ["UpdateDeferred", "ClaimTerminating", "ClaimNotAllowed"])
def test_deferred_pod_keeps_host_and_path_while_its_class_moves_to_a_shared_host(kind: str, reason: str) -> None:
    # The host of the new class with the path of the old one would be `/` of the shared host, for every deferred user.
    snapshot = served_by(class_of(kind))
    spec: dict[str, Any] = {"lifecycle": {"updateStrategy": "WhenSuspended"}} if reason == "UpdateDeferred" else {}
    if reason == "ClaimNotAllowed":
        spec = {"storage": {"claimName": "user-storage-alice"}}
    claim = snapshot.children.pvc
    assert claim is not None
    if reason == "ClaimTerminating":
        claim = claim | {"metadata": claim["metadata"] | {"deletionTimestamp": "2026-01-31T11:59:50Z"}}
    network = EXPOSE[kind] | {"hostTemplate": "files.example.org", "tlsSecretName": "files"}
    shared = UserStorageClass.parse(class_object(network=network, browser={"basePath": "/u/${slug}/"}))
    snapshot = replace(snapshot, cls=shared, storage=snapshot_of(storage_object(**spec)).storage)
    snapshot = snapshot.with_children(replace(snapshot.children, pvc=claim))
    planned = plan(snapshot, NOW)
    assert planned.desired is not None
    assert deferral(snapshot, planned.desired) == reason
    wanted = getattr(planned.desired, kind)
    assert served_host(wanted) == HostPath("alice.example.org", "/")
    assert child_patch(wanted, getattr(snapshot.children, kind)) == {}  # the new certificate is for the new host


def test_foreign_ingress_is_not_kept() -> None:
    snapshot = served_by(class_of("ingress"))
    newer = desired_of(storage_object(), class_of("ingress", basePath="/files/"))
    foreign = stored(
        desired_of(storage_object(), class_of("ingress")).ingress or {},
        ownerReferences=[{"controller": True, "uid": "x", "kind": "Y", "apiVersion": "v1"}],
    )
    snapshot = snapshot.with_children(replace(snapshot.children, ingress=foreign))
    assert keep_current_access(newer, snapshot, paced=False).ingress is None


def test_cluster_internal_url_uses_base_path_of_pod() -> None:
    plain = UserStorageClass.parse(class_object(browser={"basePath": "/a/"}))
    newer = UserStorageClass.parse(class_object(browser={"basePath": "/b/"}))
    snapshot = served_by(plain)
    assert served_path(snapshot) == "/a/"
    assert (url(snapshot, newer) or "").endswith(".svc/a/")
    assert (url(snapshot.with_children(replace(snapshot.children, pod=None)), newer) or "").endswith(".svc/b/")


@pytest.mark.parametrize("forged", ["", "@example.org/", ".example.org/", ":80@example.org"])
def test_forged_base_path_annotation_of_pod_does_not_change_host_of_url(forged: str) -> None:
    cls = class_of("ingress", basePath="/a/")
    snapshot = served_by(cls)
    pod = snapshot.children.pod
    assert pod is not None
    edited = pod | {"metadata": pod["metadata"] | {"annotations": {"userstorage.dev/base-path": forged}}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=edited, ingress=None))
    assert url(snapshot, cls) == "http://user-storage-alice.users.svc/a/"


def test_missing_class_keeps_url_and_network_ready() -> None:
    snapshot = served_by(UserStorageClass.parse(class_object(network={"policy": "None"})))
    snapshot = replace(snapshot, cls=None).with_children(replace(snapshot.children, network_policy=None))
    status = report(Outcome(snapshot, None, Plan(), None, NOW), {"url": "http://former.example.org/"})
    assert status["url"] == "http://former.example.org/"
    [network] = [entry for entry in status["conditions"] if entry["type"] == "NetworkReady"]
    assert network["status"] == "True"
    assert "NetworkPolicy" not in network["message"]


@pytest.mark.parametrize(
    ("claim", "spec", "granted"),
    [
        ({"annotations": {"userstorage.dev/user-id": "alice"}}, {}, "10Gi"),
        ({"annotations": {}}, {}, None),
        ({"annotations": {"userstorage.dev/user-id": "alice"}}, {"storage": {"claimName": "shared"}}, None),
    ],
)
def test_current_claim_size_is_that_of_the_users_own_claim(
    claim: Unstructured, spec: Unstructured, granted: str | None
) -> None:
    live = {"metadata": {"uid": UID, **claim}, "spec": {"resources": {"requests": {"storage": "10Gi"}}}}
    assert current_claim_size(snapshot_of(storage_object(**spec), pvc=live)) == granted
    assert current_claim_size(snapshot_of(storage_object(**spec))) is None


@pytest.mark.parametrize("kind", EXPOSE)
@pytest.mark.parametrize("network", [{}, EXPOSE["ingress"], EXPOSE["http_route"]])
def test_pod_waiting_for_rollout_keeps_sources_and_ways_in(kind: str, network: dict[str, Any]) -> None:
    snapshot = served_by(class_of(kind))
    elsewhere = {"hostTemplate": "${slug}.example.com"} if network else {}
    sources = {"allowedFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}]}
    cls = UserStorageClass.parse(class_object(network=network | elsewhere | sources, browser={"port": 9999}))
    kept, before = (
        keep_current_access(desired_of(storage_object(), cls), snapshot, paced=True),
        desired_of(storage_object(), class_of(kind)),
    )
    assert kept.network_policy == before.network_policy
    for field in EXPOSE:
        live, wanted = getattr(snapshot.children, field), getattr(kept, field)
        assert (wanted is None) == (live is None)
        assert live is None or child_patch(wanted, live) == {}


@pytest.mark.parametrize(
    "edited",
    [
        {"rules": [{"host": "bob.example.org", "http": {"paths": []}}]},
        {"defaultBackend": {"service": {"name": "other", "port": {"number": 80}}}},
    ],
)
def test_edited_ingress_is_not_kept_for_the_rollout(edited: Unstructured) -> None:
    snapshot = served_by(class_of("ingress"))
    ingress = snapshot.children.ingress
    assert ingress is not None
    changed = ingress | {"spec": ingress["spec"] | edited}
    snapshot = snapshot.with_children(replace(snapshot.children, ingress=changed))
    newer = desired_of(storage_object(), class_of("ingress", basePath="/files/"))
    assert keep_current_access(newer, snapshot, paced=True).ingress is None
    same = desired_of(storage_object(), class_of("ingress", port=9999))
    assert keep_current_access(same, snapshot, paced=True).ingress == same.ingress


def test_ingress_to_another_users_service_is_not_kept() -> None:
    snapshot = served_by(class_of("ingress"))
    bobs = desired_of(storage_object("bob"), class_of("ingress")).ingress
    assert bobs is not None
    assert snapshot.children.ingress is not None
    changed = snapshot.children.ingress | {"spec": bobs["spec"]}
    snapshot = snapshot.with_children(replace(snapshot.children, ingress=changed))
    assert keep_current_access(desired_of(storage_object()), snapshot, paced=True).ingress is None


def test_lost_host_is_not_kept_for_the_rollout() -> None:
    cls = class_of("ingress")
    taken = replace(served_by(cls), cls=cls, exposure_conflict=Finding("HostConflict", ""))
    unexposed = replace(desired_of(storage_object(), cls), ingress=None)
    assert keep_current_access(unexposed, taken, paced=True).ingress is None
    elsewhere = UserStorageClass.parse(class_object(network=EXPOSE["ingress"] | {"hostTemplate": "files.example.org"}))
    unexposed = replace(desired_of(storage_object(), elsewhere), ingress=None)
    assert keep_current_access(unexposed, replace(taken, cls=elsewhere), paced=True).ingress is not None


@pytest.mark.parametrize("rules", [[], [{}], [{"from": []}], [{"from": [{"podSelector": {}}]}, {}]])
def test_sources_of_an_opened_policy_are_not_kept(rules: list[Any]) -> None:
    snapshot = served_by(class_of("ingress"))
    policy = snapshot.children.network_policy
    assert policy is not None
    opened = policy | {"spec": policy["spec"] | {"ingress": rules}}
    snapshot = snapshot.with_children(replace(snapshot.children, network_policy=opened))
    newer = desired_of(storage_object(), class_of("ingress"))
    assert keep_current_access(newer, snapshot, paced=True).network_policy == newer.network_policy
