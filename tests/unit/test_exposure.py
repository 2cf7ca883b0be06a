"""Hosts, their Ingress or HTTPRoute, and the meaning of a Gateway's route status."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import identities
from support.builders import CREATED, NOW, class_object, desired_of, settled_snapshot, storage_object, stored
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.diff import child_patch
from userstorage_operator.plan.exposure import HostPath, host_path, route_rejection, served_host, wanted_host
from userstorage_operator.plan.planner import plan_changes
from userstorage_operator.plan.steps import Create, Delete, Patch, Plan, is_optional
from userstorage_operator.status.network_ready import url
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report

HOST = "${slug}.${namespace}.example.org"
NETWORKS: dict[Kind, dict[str, Any]] = {
    Kind.INGRESS: {"expose": "Ingress", "hostTemplate": HOST},
    Kind.HTTP_ROUTE: {"expose": "Gateway", "hostTemplate": HOST, "gateway": {"name": "public"}},
}
HOST_PATH = HostPath("alice.users.example.org", "/")
ACCEPTED = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": ""}


def cls(kind: Kind = Kind.INGRESS, **network: Any) -> UserStorageClass:
    return UserStorageClass.parse(class_object(network=NETWORKS[kind] | network))


INSIDE = UserStorageClass.parse(class_object())
"""A class without exposure."""


def child(kind: Kind, **network: Any) -> Unstructured:
    found: Unstructured = getattr(desired_of(storage_object(), cls(kind, **network)), kind.field)
    return found


def with_parent_status(route: Unstructured, *conditions: Unstructured, **ref: str) -> Unstructured:
    parents = [{"parentRef": {"name": "public"} | ref, "conditions": list(conditions)}]
    return route | {"status": {"parents": parents}}


def exposed_snapshot(kind: Kind, **network: Any) -> Snapshot:
    """Return a snapshot in which every child is as desired, including the accepted Ingress or HTTPRoute."""
    snapshot = settled_snapshot(storage_object(), cls(kind, **network))
    return snapshot.with_children(
        replace(snapshot.children, **{kind.field: with_parent_status(stored(child(kind, **network)), ACCEPTED)})
    )


def status_of(snapshot: Snapshot) -> Unstructured:
    assert snapshot.cls is not None
    wanted = desired_of(storage_object(), snapshot.cls)
    return report(Outcome(snapshot, wanted, Plan(), None, NOW), {})


def network_ready(status: Unstructured) -> tuple[str, str]:
    [entry] = [entry for entry in status["conditions"] if entry["type"] == "NetworkReady"]
    return entry["status"], entry["reason"]


NAMESPACES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
TEMPLATES = st.sampled_from(
    ["${slug}.example.org", "${slug}-${namespace}.example.org", HOST, "x${slug}", f"{'a' * 60}.{'b' * 60}.{'c' * 60}." + HOST]
)


@given(identities.VALID, NAMESPACES, TEMPLATES)
def test_host_is_valid_dns_name_or_refused(user_id: str, namespace: str, template: str) -> None:
    storage = UserStorage.parse(storage_object(user_id, meta={"namespace": namespace}))
    expanded = template.replace("${slug}", storage.slug).replace("${namespace}", namespace)
    reserved = any(label[2:4] == "--" for label in expanded.split("."))
    fits = len(expanded) <= 253 and all(len(label) <= 63 for label in expanded.split(".")) and not reserved
    if not fits:
        with pytest.raises(InvalidSpec, match=rf"class spec.network.hostTemplate.* spec.userID {re.escape(repr(user_id))}"):
            host_path(storage, cls(hostTemplate=template))
        return
    at = host_path(storage, cls(hostTemplate=template))
    assert at is not None
    assert at.host == expanded
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", label) for label in at.host.split("."))


@pytest.mark.parametrize(
    ("template", "user_id", "namespace", "label"),
    [
        ("ab--${slug}.example.org", "alice", "users", "ab--alice"),
        ("${slug}--x.example.org", "jo", "users", "jo--x"),
        ("${namespace}.${slug}.example.org", "alice", "ab--c", "ab--c"),
        ("x${namespace}--${slug}.example.org", "alice", "n", "xn--alice"),
        ("${slug}.ab--c.example.org", "alice", "users", "ab--c"),
    ],
)
def test_reserved_label_is_refused(template: str, user_id: str, namespace: str, label: str) -> None:
    raw = storage_object(user_id, meta={"namespace": namespace})
    cls = UserStorageClass.parse(class_object(network={"expose": "Ingress", "hostTemplate": template}))
    with pytest.raises(InvalidSpec, match=f"'{label}' has hyphens in the third and fourth place"):
        host_path(UserStorage.parse(raw), cls)


@pytest.mark.parametrize("user_id", ["AB", "Jo", "A", "|", "jo", "a"])
def test_host_of_a_short_user_id_is_accepted(user_id: str) -> None:
    for template in ("${slug}.files.example.org", "a${slug}.example.org", "${slug}.xn--mnchen-3ya.example.org"):
        cls = UserStorageClass.parse(class_object(network={"expose": "Ingress", "hostTemplate": template}))
        assert host_path(UserStorage.parse(storage_object(user_id)), cls) is not None


def test_invalid_host_template_is_refused() -> None:
    storage = UserStorage.parse(storage_object())
    for template in (None, "-${slug}.org", "a..${slug}", "${slug}.ORG"):
        with pytest.raises(InvalidSpec, match=r"class spec.network.hostTemplate"):
            host_path(storage, cls(hostTemplate=template))


def test_class_gets_only_the_ingress_or_route_that_it_asks_for() -> None:
    closed = desired_of(storage_object(), INSIDE)
    assert (closed.ingress, closed.http_route) == (None, None)
    for kind, other in (EXPOSURE, EXPOSURE[::-1]):
        wanted = desired_of(storage_object(), cls(kind))
        assert getattr(wanted, other.field) is None
        found = getattr(wanted, kind.field)
        assert found["metadata"]["name"] == "user-storage-alice"
        assert served_host(stored(found)) == HOST_PATH


@pytest.mark.parametrize("kind", EXPOSURE)
def test_exposed_path_is_base_path(kind: Kind) -> None:
    raw = class_object(network=NETWORKS[kind], browser={"basePath": "/u/${slug}/"})
    found = getattr(desired_of(storage_object(), UserStorageClass.parse(raw)), kind.field)
    assert served_host(found) == HostPath(HOST_PATH.host, "/u/alice/")


def test_wanted_host_needs_valid_spec_and_exposing_class() -> None:
    classes = [class_object(network=NETWORKS[Kind.INGRESS]), class_object("closed")]
    assert wanted_host(storage_object(className="standard"), classes) == HOST_PATH
    without_host: list[dict[str, Any]] = [
        {},
        {"className": "closed"},
        {"className": "none"},
        {"className": "standard", "replicas": "x"},
    ]
    for spec in without_host:
        assert wanted_host(storage_object(**spec), classes) is None


@pytest.mark.parametrize("kind", EXPOSURE)
def test_exposure_is_created_after_pod(kind: Kind) -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw, cls(kind))
    snapshot = snapshot.with_children(replace(snapshot.children, pod=None))
    steps = plan_changes(snapshot, desired_of(raw, cls(kind)), NOW).steps
    assert [step.kind for step in steps if isinstance(step, Create)] == [Kind.POD, kind]


@pytest.mark.parametrize("kind", EXPOSURE)
def test_unchanged_exposure_is_kept_and_unrequested_exposure_is_deleted(kind: Kind) -> None:
    snapshot = exposed_snapshot(kind, annotations={"example.org/a": "1"})
    assert snapshot.cls is not None
    assert plan_changes(snapshot, desired_of(storage_object(), snapshot.cls), NOW).steps == ()
    deletion, *record = plan_changes(snapshot, desired_of(storage_object(), INSIDE), NOW).steps
    assert deletion == Delete(kind, f"uid-{kind.resource.kind}")
    assert [step.kind for step in record if isinstance(step, Patch)] == [Kind.POD]


@pytest.mark.parametrize("kind", EXPOSURE)
@pytest.mark.parametrize("owner_uid", [None, "former"])
@pytest.mark.parametrize("terminating", [{}, {"deletionTimestamp": CREATED}])
def test_foreign_exposure_does_not_block_pod(kind: Kind, owner_uid: str | None, terminating: Unstructured) -> None:
    snapshot, wanted = exposed_snapshot(kind), desired_of(storage_object(), cls(kind))
    [owner] = child(kind)["metadata"]["ownerReferences"]
    owners = [owner | {"uid": owner_uid}] if owner_uid else [owner | {"uid": "other", "kind": "Other"}]
    foreign = stored(child(kind), ownerReferences=owners, **terminating)
    snapshot = snapshot.with_children(replace(snapshot.children, pod=None, **{kind.field: foreign}))
    pod, exposure = plan_changes(snapshot, wanted, NOW).steps
    assert isinstance(pod, Create)
    assert isinstance(exposure, Create)  # the applier refuses this step and keeps the foreign object
    assert (pod.kind, exposure.kind) == (Kind.POD, kind)
    assert is_optional(exposure)
    assert network_ready(status_of(snapshot)) == ("False", "Pending")
    inside = plan_changes(snapshot, desired_of(storage_object(), INSIDE), NOW).steps
    assert [step.kind for step in inside if isinstance(step, Create)] == [Kind.POD]
    assert len(inside) == 1


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (Kind.INGRESS, {"rules": []}),
        (Kind.INGRESS, {"tls": [{"hosts": ["x"]}]}),
        (Kind.INGRESS, {"defaultBackend": {"service": {"name": "evil", "port": {"number": 1}}}}),
        (Kind.INGRESS, {"ingressClassName": "other"}),
        (Kind.HTTP_ROUTE, {"hostnames": []}),
        (Kind.HTTP_ROUTE, {"parentRefs": [{"name": "other"}]}),
        (Kind.HTTP_ROUTE, {"rules": []}),
    ],
)
def test_damaged_exposure_spec_is_repaired(kind: Kind, damage: Unstructured) -> None:
    network = {"ingressClassName": "nginx"} if kind is Kind.INGRESS else {}
    snapshot = exposed_snapshot(kind, **network)
    live = getattr(snapshot.children, kind.field)
    broken = live | {"spec": live["spec"] | damage}
    wanted = desired_of(storage_object(), cls(kind, **network))
    steps = plan_changes(snapshot.with_children(replace(snapshot.children, **{kind.field: broken})), wanted, NOW).steps
    assert [step.kind for step in steps if isinstance(step, Patch)] == [kind]


def test_default_ingress_class_of_cluster_is_kept() -> None:
    live = stored(child(Kind.INGRESS))
    live["spec"]["ingressClassName"] = "filled-in"
    assert child_patch(child(Kind.INGRESS), live) == {}


def test_annotation_dropped_from_class_is_removed_and_annotations_of_others_stay() -> None:
    live = stored(child(Kind.INGRESS, annotations={"a": "1", "b": "2"}))
    live["metadata"]["annotations"] = live["metadata"]["annotations"] | {"foreign": "x"}

    def managed(manager: str, *keys: str) -> Unstructured:
        return {
            "manager": manager,
            "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, **{f"f:{key}": {} for key in keys}}}},
        }

    live["metadata"]["managedFields"] = [managed(FIELD_MANAGER, "a", "b", "userstorage.dev/user-id"), managed("x", "foreign")]
    patch = child_patch(child(Kind.INGRESS, annotations={"a": "1"}), live)
    assert patch == {"metadata": {"annotations": {"b": None}}}


def test_operator_annotations_override_those_of_class() -> None:
    found = child(Kind.INGRESS, annotations={"userstorage.dev/user-id": "mallory"})
    assert found["metadata"]["annotations"] == {"userstorage.dev/user-id": "alice"}


LISTENER = {"name": "public", "namespace": "infra", "sectionName": "https"}


def test_route_attaches_to_one_listener_of_a_gateway_elsewhere() -> None:
    route = stored(child(Kind.HTTP_ROUTE, gateway=LISTENER))
    assert route["spec"]["parentRefs"] == [{"group": "gateway.networking.k8s.io", "kind": "Gateway"} | LISTENER]
    for ref in ({}, {"namespace": "infra"}, {"sectionName": "https"}, LISTENER | {"sectionName": "http"}):
        finding = route_rejection(with_parent_status(route, ACCEPTED, **ref))
        assert finding is not None
        assert finding.reason == "RoutePending"
        assert "'public' of namespace 'infra', listener 'https'" in finding.message
    assert route_rejection(with_parent_status(route, ACCEPTED, **LISTENER)) is None


def test_status_of_one_listener_says_nothing_of_a_route_to_all() -> None:
    route = stored(child(Kind.HTTP_ROUTE))
    assert route_rejection(with_parent_status(route, ACCEPTED, sectionName="http")) is not None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("NotAllowedByListeners", "must allow HTTPRoutes of namespace 'users' in its listener: allowedRoutes"),
        ("NoMatchingListenerHostname", "must cover network.hostTemplate"),
        ("NoMatchingParent", "network.gateway.sectionName of the class"),
    ],
)
def test_rejected_route_says_what_has_to_change(reason: str, words: str) -> None:
    rejected = ACCEPTED | {"status": "False", "reason": reason, "message": "no"}
    finding = route_rejection(with_parent_status(stored(child(Kind.HTTP_ROUTE)), rejected))
    assert finding is not None
    assert words in finding.message


def test_class_without_gateway_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"class spec.network.gateway is required"):
        child(Kind.HTTP_ROUTE, gateway={"namespace": "infra"})


def test_invalid_path_has_no_url() -> None:
    snapshot = settled_snapshot(storage_object(), INSIDE)
    snapshot = snapshot.with_children(replace(snapshot.children, pod=None))
    raw = class_object(browser={"basePath": "/${user}/"})
    assert url(snapshot, UserStorageClass.parse(raw)) is None


def test_route_is_pending_until_its_gateway_accepts_current_spec() -> None:
    route = stored(child(Kind.HTTP_ROUTE), generation=2)
    pending = [
        route,
        route | {"status": {"parents": []}},
        with_parent_status(route, ACCEPTED, name="other"),
        with_parent_status(route, ACCEPTED, namespace="infra"),
        with_parent_status(route, ACCEPTED, kind="Service", group=""),
        with_parent_status(route, ACCEPTED | {"observedGeneration": 1}),
        with_parent_status(route),
    ]
    for case in pending:
        finding = route_rejection(case)
        assert finding is not None
        assert finding.reason == "RoutePending"
    for accepted in (
        with_parent_status(route, ACCEPTED | {"observedGeneration": 2}),
        with_parent_status(route, ACCEPTED, namespace="users"),
    ):
        assert route_rejection(accepted) is None


@pytest.mark.parametrize("condition_type", ["Accepted", "ResolvedRefs"])
def test_route_rejection_quotes_controller_message(condition_type: str) -> None:
    rejected = {"type": condition_type, "status": "False", "reason": "NoReason", "message": "the listener allows no such route"}
    finding = route_rejection(with_parent_status(stored(child(Kind.HTTP_ROUTE)), ACCEPTED, rejected))
    assert finding is not None
    assert finding.reason == "RouteNotAccepted"
    assert "the listener allows no such route" in finding.message


@pytest.mark.parametrize("kind", EXPOSURE)
def test_terminating_exposure_is_reported_as_pending(kind: Kind) -> None:
    snapshot = exposed_snapshot(kind)
    exposure = getattr(snapshot.children, kind.field)
    terminating = exposure | {"metadata": exposure["metadata"] | {"deletionTimestamp": CREATED}}
    snapshot = snapshot.with_children(replace(snapshot.children, **{kind.field: terminating}))
    assert network_ready(status_of(snapshot)) == ("False", "Pending")


@pytest.mark.parametrize("kind", EXPOSURE)
def test_url_is_external_only_if_exposure_is_in_place(kind: Kind) -> None:
    inside = "http://user-storage-alice.users.svc/"
    snapshot = exposed_snapshot(kind)
    assert status_of(snapshot)["url"] == "http://alice.users.example.org/"
    assert status_of(exposed_snapshot(kind, tlsSecretName="t"))["url"] == "https://alice.users.example.org/"
    missing = status_of(snapshot.with_children(replace(snapshot.children, **{kind.field: None})))
    assert (missing["url"], network_ready(missing), missing["phase"]) == (inside, ("False", "Pending"), "Degraded")
    live = getattr(snapshot.children, kind.field)
    for gone in (
        live | {"spec": live["spec"] | {"rules": []}},
        live | {"spec": {}},
        live | {"spec": {key: live["spec"][key] for key in live["spec"] if key not in ("rules", "parentRefs")}},
        live | {"metadata": live["metadata"] | {"ownerReferences": []}},
        live | {"metadata": live["metadata"] | {"deletionTimestamp": "2026-01-31T12:00:00Z"}},
    ):
        assert status_of(snapshot.with_children(replace(snapshot.children, **{kind.field: gone})))["url"] == inside


def test_unaccepted_route_gives_internal_url() -> None:
    snapshot = exposed_snapshot(Kind.HTTP_ROUTE)
    status = status_of(snapshot.with_children(replace(snapshot.children, http_route=stored(child(Kind.HTTP_ROUTE)))))
    assert status["url"] == "http://user-storage-alice.users.svc/"
    assert (network_ready(status), status["phase"]) == (("False", "RoutePending"), "Degraded")


def test_host_conflict_is_reported_and_ingress_is_deleted() -> None:
    snapshot = replace(exposed_snapshot(Kind.INGRESS), exposure_conflict=Finding("HostConflict", "taken"))
    storage = UserStorage.parse(storage_object())
    wanted = replace(desired_of(storage_object(), cls()), ingress=None)
    assert plan_changes(snapshot, wanted, NOW).steps == (Delete(Kind.INGRESS, "uid-Ingress"),)
    closed = snapshot.with_children(replace(snapshot.children, ingress=None))
    status = report(Outcome(closed, wanted, Plan(), None, NOW), {})
    assert network_ready(status) == ("False", "HostConflict")
    assert status["url"] == f"http://user-storage-{storage.slug}.users.svc/"
