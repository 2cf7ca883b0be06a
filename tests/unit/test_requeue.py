"""Until when the status of a start or a deletion waits for its end."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.builders import CREATED, NOW, desired_of, settled_snapshot, snapshot_of, storage_object, stored
from userstorage_operator.api.errors import Unavailable
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.plan.steps import Plan
from userstorage_operator.status.outcome import Failure, Outcome
from userstorage_operator.status.report import report, status_patch
from userstorage_operator.status.requeue import claim_details_at, report_at, requeue_after

DELAY = timedelta(seconds=5)
BOUND: Unstructured = {"storage": {"claimPhase": "Bound"}}


def starting(seconds: int, status: Unstructured | None = None, **spec: Any) -> Outcome:
    """Return the outcome for a pod that was created so many seconds ago, and is not ready."""
    raw = storage_object(**spec)
    pod = stored(desired_of(raw).pod, creationTimestamp=format_time(NOW - timedelta(seconds=seconds)))
    pod |= {"status": {"phase": "Pending"}}
    return Outcome(replace(snapshot_of(raw, pod=pod), status=status or {}), None, Plan(), None, NOW)


def deleting(seconds: int, status: Unstructured | None = None, **spec: Any) -> Outcome:
    """Return the outcome for a UserStorage whose deletion was requested so many seconds ago."""
    raw = storage_object(meta={"deletionTimestamp": format_time(NOW - timedelta(seconds=seconds))}, **spec)
    return Outcome(replace(settled_snapshot(raw), status=status or {}), None, Plan(), None, NOW)


def claim_created(seconds: int) -> Outcome:
    """Return the outcome for a UserStorage that is ready, on a claim that was created so many seconds ago."""
    snapshot = settled_snapshot(storage_object())
    claim = snapshot.children.pvc
    assert claim is not None
    claim = claim | {"metadata": claim["metadata"] | {"creationTimestamp": format_time(after(-seconds))}}
    return Outcome(snapshot.with_child(Kind.PVC, claim), None, Plan(), None, NOW)


def after(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("under_way", [starting, deleting])
def test_report_waits_for_the_end_of_a_start_or_a_deletion(under_way: Callable[[int], Outcome]) -> None:
    assert report_at(under_way(2), NOW, DELAY) == after(3)
    assert report_at(under_way(5), NOW, DELAY) is None
    assert report_at(under_way(5), NOW, DELAY * 2) == after(5)
    failed = replace(under_way(2), failure=Failure(Unavailable(0, "no answer"), 1, NOW))
    assert report_at(failed, NOW, DELAY) is None
    assert report_at(under_way(-60), NOW, DELAY) is None, "the clocks differ"


def test_report_does_not_wait_beyond_the_timeout_of_the_spec() -> None:
    assert report_at(starting(1, lifecycle={"startTimeout": "2s"}), NOW, DELAY) == after(1)
    assert report_at(deleting(1, lifecycle={"deletionTimeout": "2s"}), NOW, DELAY) == after(1)


def test_later_reports_do_not_wait() -> None:
    assert report_at(starting(2, {"observedGeneration": 1}), NOW, DELAY) is None
    assert report_at(deleting(2, {"phase": "Terminating"}), NOW, DELAY) is None


def test_writes_that_took_seconds_do_not_end_the_wait() -> None:
    created_by_this_reconcile = starting(-3)
    assert report_at(created_by_this_reconcile, after(4), DELAY) == after(8)
    details = claim_created(-3)
    assert claim_details_at(details, BOUND, after(4), DELAY) == after(8)


@pytest.mark.parametrize("claim_phase", ["Pending", "Bound", "Lost"])
def test_ready_pod_is_reported_at_once_whatever_is_known_of_its_claim(claim_phase: str) -> None:
    claimed = claim_created(2)
    claim, pod = claimed.snapshot.children.pvc, claimed.snapshot.own_pod
    assert claim is not None
    assert pod is not None
    pod = pod | {"metadata": pod["metadata"] | {"creationTimestamp": format_time(after(-2))}}
    snapshot = claimed.snapshot.with_child(Kind.POD, pod).with_child(Kind.PVC, claim | {"status": {"phase": claim_phase}})
    assert report_at(replace(claimed, snapshot=replace(snapshot, status={})), NOW, DELAY) is None


def test_claim_that_becomes_bound_under_a_ready_pod_changes_only_its_details() -> None:
    outcome = claim_created(2)
    claim = outcome.snapshot.children.pvc
    assert claim is not None
    pending = replace(outcome, snapshot=outcome.snapshot.with_child(Kind.PVC, claim | {"status": {"phase": "Pending"}}))
    patch = status_patch(report(outcome, {}), report(pending, {}))
    assert patch["storage"]["claimPhase"] == "Bound"
    assert claim_details_at(outcome, patch, NOW, DELAY) == after(3)


def test_pod_that_is_ready_or_has_a_problem_is_reported_at_once() -> None:
    raw = storage_object(meta={"creationTimestamp": CREATED})
    assert report_at(Outcome(settled_snapshot(raw), None, Plan(), None, NOW), NOW, DELAY) is None
    failing = starting(2)
    [container] = [{"name": "browser", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}}]
    pod = (failing.snapshot.own_pod or {}) | {"status": {"phase": "Pending", "containerStatuses": [container]}}
    failing = replace(failing, snapshot=failing.snapshot.with_children(replace(failing.snapshot.children, pod=pod)))
    assert report_at(failing, NOW, DELAY) is None


def test_details_of_a_claim_that_is_being_bound_wait() -> None:
    outcome = claim_created(2)
    assert claim_details_at(outcome, BOUND, NOW, DELAY) == after(3)
    assert claim_details_at(outcome, BOUND, NOW, DELAY / 5) is None
    assert claim_details_at(outcome, BOUND | {"phase": "Ready"}, NOW, DELAY) is None
    assert claim_details_at(claim_created(3600), BOUND, NOW, DELAY) is None, "the claim is old"


def test_reconcile_follows_when_the_report_is_due() -> None:
    assert requeue_after(starting(2), after(3), after(0)) == 3
    assert requeue_after(starting(2), after(3), after(1)) == 2  # the reconcile took a second
    assert requeue_after(starting(2), after(3), after(4)) == 0
    assert requeue_after(deleting(2), None, after(0)) is None
