"""Class changes that are deferred until the pod is replaced."""

from dataclasses import replace
from typing import Any

import pytest

from support.builders import (
    EXPOSE,
    NOW,
    UID,
    class_object,
    class_of,
    desired_of,
    served_by,
    settled_snapshot,
    snapshot_of,
    storage_object,
    stored,
)
from userstorage_operator.api import names
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.plan.deferred_changes import (
    current_claim_size,
    ids_of_files,
    keep_current_access,
    keep_current_endpoint,
    served_path,
)
from userstorage_operator.plan.diff import child_patch
from userstorage_operator.plan.exposure import HostPath, served_host
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.pod import deferral
from userstorage_operator.plan.steps import Patch, Plan
from userstorage_operator.status.network_ready import url
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report
from userstorage_operator.status.storage_ready import storage_ready

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


@pytest.mark.parametrize("kind", EXPOSE)
def test_outdated_pod_keeps_its_port_and_route(kind: str) -> None:
    snapshot = served_by(class_of(kind))
    newer = desired_of(storage_object(), class_of(kind, port=9999, basePath="/files/"))
    kept, before = keep_current_endpoint(newer, snapshot), desired_of(storage_object(), class_of(kind))
    assert kept.network_policy == before.network_policy
    assert getattr(kept, kind) == getattr(before, kind) != getattr(newer, kind)
    assert kept.pod == newer.pod


@pytest.mark.parametrize("kind", EXPOSE)
def test_other_class_changes_apply_at_once_if_update_is_deferred(kind: str) -> None:
    snapshot = served_by(class_of(kind))
    network = EXPOSE[kind] | {
        "hostTemplate": "${slug}.example.com",
        "allowedFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}],
    }
    newer = desired_of(storage_object(), UserStorageClass.parse(class_object(network=network)))
    kept = keep_current_endpoint(newer, snapshot)
    assert kept.network_policy == newer.network_policy
    assert getattr(kept, kind) == getattr(newer, kind)


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
    if kind == "ingress":
        assert wanted["spec"]["tls"] == [{"hosts": ["alice.example.org"], "secretName": "files"}]
        applied = snapshot.with_children(replace(snapshot.children, ingress=stored(wanted)))
        assert url(applied, shared) == "https://alice.example.org/"


def test_class_change_applies_at_once_if_ingress_is_missing_or_foreign() -> None:
    snapshot = served_by(class_of("ingress"))
    newer = desired_of(storage_object(), class_of("ingress", basePath="/files/"))
    assert keep_current_endpoint(newer, snapshot.with_children(replace(snapshot.children, ingress=None, pod=None))) == newer
    foreign = stored(desired_of(storage_object(), class_of("ingress")).ingress or {}, ownerReferences=[])
    assert (
        keep_current_endpoint(newer, snapshot.with_children(replace(snapshot.children, ingress=foreign))).ingress
        == newer.ingress
    )


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
        keep_current_access(desired_of(storage_object(), cls), snapshot),
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
    newer = desired_of(storage_object(), class_of("ingress", port=9999))
    assert keep_current_access(newer, snapshot).ingress == newer.ingress


def test_ingress_to_another_users_service_is_not_kept() -> None:
    snapshot = served_by(class_of("ingress"))
    bobs = desired_of(storage_object("bob"), class_of("ingress")).ingress
    assert bobs is not None
    assert snapshot.children.ingress is not None
    changed = snapshot.children.ingress | {"spec": bobs["spec"]}
    snapshot = snapshot.with_children(replace(snapshot.children, ingress=changed))
    assert keep_current_access(desired_of(storage_object()), snapshot).ingress is None


def test_lost_host_is_not_kept_for_the_rollout() -> None:
    cls = class_of("ingress")
    taken = replace(served_by(cls), cls=cls, exposure_conflict=Finding("HostConflict", ""))
    unexposed = replace(desired_of(storage_object(), cls), ingress=None)
    assert keep_current_access(unexposed, taken).ingress is None
    moved = replace(
        taken, cls=UserStorageClass.parse(class_object(network=EXPOSE["ingress"] | {"hostTemplate": "files.example.org"}))
    )
    assert keep_current_access(unexposed, moved).ingress is not None


@pytest.mark.parametrize("rules", [[], [{}], [{"from": []}], [{"from": [{"podSelector": {}}]}, {}]])
def test_sources_of_an_opened_policy_are_not_kept(rules: list[Any]) -> None:
    snapshot = served_by(class_of("ingress"))
    policy = snapshot.children.network_policy
    assert policy is not None
    opened = policy | {"spec": policy["spec"] | {"ingress": rules}}
    snapshot = snapshot.with_children(replace(snapshot.children, network_policy=opened))
    newer = desired_of(storage_object(), class_of("ingress"))
    assert keep_current_access(newer, snapshot).network_policy == newer.network_policy
