"""The labels by which Service and NetworkPolicy select the pod."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW, UID, desired_of, ready_pod, settled_snapshot, storage_object, stored
from userstorage_operator.api import names
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.finalizers import protects, selects
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.steps import Patch, Plan
from userstorage_operator.status.network_ready import network_ready
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report

FORMER = {"app": "filebrowser", "userId": "alice"}
"""The selector of earlier builds."""
OURS = {names.LABEL_SLUG: "alice"}


def with_labels(child: Unstructured, **labels: Any) -> Unstructured:
    kept = {key: value for key, value in child["metadata"]["labels"].items() if key != names.LABEL_SLUG}
    return child | {"metadata": child["metadata"] | {"labels": kept | labels}}


def of_earlier_build(pod_is_labelled: bool = False) -> Snapshot:
    """Return alice's snapshot as an earlier build left it; with the new label on the pod, if asked."""
    snapshot = settled_snapshot(storage_object())
    policy, service, pod = snapshot.children.network_policy, snapshot.children.service, snapshot.children.pod
    assert policy is not None
    assert service is not None
    assert pod is not None
    policy = with_labels(policy) | {"spec": policy["spec"] | {"podSelector": {"matchLabels": FORMER}}}
    service = with_labels(service) | {"spec": service["spec"] | {"selector": FORMER}}
    children = replace(
        snapshot.children, network_policy=policy, service=service, pod=pod if pod_is_labelled else with_labels(pod)
    )
    return snapshot.with_children(children)


def patches(snapshot: Snapshot) -> dict[Kind, Unstructured]:
    return {step.kind: step.patch for step in plan(snapshot, NOW).steps if isinstance(step, Patch)}


def test_pod_is_labelled_before_it_is_selected_by_the_label() -> None:
    before = of_earlier_build()
    first = patches(before)
    assert first[Kind.POD] == {"metadata": {"labels": OURS}}
    assert all("spec" not in patch for patch in first.values())
    assert NOW + timedelta(seconds=10) in plan(before, NOW).requeue_at  # no event reports our own write
    second = patches(of_earlier_build(pod_is_labelled=True))
    merged = OURS | dict.fromkeys(FORMER)
    assert second[Kind.NETWORK_POLICY]["spec"] == {"podSelector": {"matchLabels": merged}}
    assert second[Kind.SERVICE]["spec"] == {"selector": merged}
    assert Kind.POD not in second


def test_labels_change_without_another_pod() -> None:
    assert plan(of_earlier_build(), NOW).pod_deletion is None


def test_selectors_change_before_the_next_pod() -> None:
    suspended = of_earlier_build()
    suspended = suspended.with_children(replace(suspended.children, pod=None))
    assert {kind for kind, patch in patches(suspended).items() if "spec" in patch} == {Kind.NETWORK_POLICY, Kind.SERVICE}


def test_terminating_pod_keeps_its_selectors() -> None:
    snapshot = of_earlier_build()
    pod = snapshot.children.pod
    assert pod is not None
    ending = pod | {"metadata": pod["metadata"] | {"deletionTimestamp": "2026-01-31T12:00:10Z"}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=ending))
    assert all("spec" not in patch for patch in patches(snapshot).values())


@pytest.mark.parametrize("labels", [{"app": "platform"}, {"userId": "platform"}])
def test_labels_of_a_platform_hide_no_pod(labels: dict[str, str]) -> None:
    snapshot = settled_snapshot(storage_object())
    desired, pod = plan(snapshot, NOW).desired, snapshot.children.pod
    assert desired is not None
    assert desired.network_policy is not None
    assert pod is not None
    relabelled = pod | {"metadata": pod["metadata"] | {"labels": pod["metadata"]["labels"] | labels}}
    assert selects(desired.network_policy["spec"]["podSelector"]["matchLabels"], relabelled)
    assert selects(desired.service["spec"]["selector"], relabelled)


@pytest.mark.parametrize(
    ("kind", "consequence"), [(Kind.NETWORK_POLICY, "other pods can reach it"), (Kind.SERVICE, "no request reaches it")]
)
def test_pod_that_is_not_selected_is_reported(kind: Kind, consequence: str) -> None:
    snapshot = settled_snapshot(storage_object())
    child, pod = getattr(snapshot.children, kind.field), snapshot.children.pod
    assert pod is not None
    elsewhere = with_labels(pod, **{names.LABEL_SLUG: "other"})
    other = Kind.SERVICE if kind is Kind.NETWORK_POLICY else Kind.NETWORK_POLICY
    lenient = getattr(snapshot.children, other.field)
    spec: Unstructured = {"podSelector": {}} if other is Kind.NETWORK_POLICY else {"selector": {}}
    children = {kind.field: child, other.field: lenient | {"spec": lenient["spec"] | spec}, "pod": elsewhere}
    snapshot = snapshot.with_children(replace(snapshot.children, **children))
    planned = plan(snapshot, NOW)
    found = network_ready(Outcome(snapshot, planned.desired, planned, None, NOW))
    assert (found.status, found.reason) == (False, "OutOfSync")
    assert f"the {kind.resource.kind} selects it ({names.LABEL_SLUG}=alice), so {consequence}" in found.message


def test_policy_protects_our_pod_whatever_its_labels_are() -> None:
    desired = desired_of(storage_object())
    policy, pod = stored(desired.network_policy or {}), ready_pod(desired.pod)
    assert protects(policy, pod)
    stripped = pod | {"metadata": pod["metadata"] | {"labels": {"app": "platform"}}}
    assert protects(policy, stripped)
    orphaned = stripped | {"metadata": stripped["metadata"] | {"ownerReferences": []}}
    assert protects(policy, orphaned)
    foreign = {"metadata": {"name": "user-storage-alice", "uid": UID, "labels": {"app": "other"}}}
    assert not protects(policy, foreign)
    assert protects(policy, {"metadata": {"labels": OURS}})


def test_selector_is_reported_for_scale_clients() -> None:
    snapshot = settled_snapshot(storage_object())
    assert (
        report(Outcome(snapshot, plan(snapshot, NOW).desired, Plan(), None, NOW), {})["selector"]
        == "userstorage.dev/slug=alice"
    )
