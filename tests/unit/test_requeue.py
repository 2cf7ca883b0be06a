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
from userstorage_operator.status.requeue import claim_details_at, report_at, requeue_after

DELAY = timedelta(seconds=5)


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


def after(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("under_way", [starting, deleting])
def test_report_waits_for_the_end_of_a_start_or_a_deletion(under_way: Callable[[int], Outcome]) -> None:
    assert report_at(under_way(2), DELAY) == after(3)
    assert report_at(under_way(5), DELAY) is None
    assert report_at(under_way(5), DELAY * 2) == after(5)
    failed = replace(under_way(2), failure=Failure(Unavailable(0, "no answer"), 1, NOW))
    assert report_at(failed, DELAY) is None
    assert report_at(under_way(-60), DELAY) is None, "the clocks differ"


def test_report_does_not_wait_beyond_the_timeout_of_the_spec() -> None:
    assert report_at(starting(1, lifecycle={"startTimeout": "2s"}), DELAY) == after(1)
    assert report_at(deleting(1, lifecycle={"deletionTimeout": "2s"}), DELAY) == after(1)


def test_later_reports_do_not_wait() -> None:
    assert report_at(starting(2, {"observedGeneration": 1}), DELAY) is None
    assert report_at(deleting(2, {"phase": "Terminating"}), DELAY) is None


def test_pod_that_is_ready_or_has_a_problem_is_reported_at_once() -> None:
    raw = storage_object(meta={"creationTimestamp": CREATED})
    assert report_at(Outcome(settled_snapshot(raw), None, Plan(), None, NOW), DELAY) is None
    failing = starting(2)
    [container] = [{"name": "browser", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "m"}}}]
    pod = (failing.snapshot.own_pod or {}) | {"status": {"phase": "Pending", "containerStatuses": [container]}}
    failing = replace(failing, snapshot=failing.snapshot.with_children(replace(failing.snapshot.children, pod=pod)))
    assert report_at(failing, DELAY) is None


def test_details_of_a_claim_that_is_being_bound_wait() -> None:
    raw = storage_object()
    snapshot = settled_snapshot(raw)
    claim = snapshot.children.pvc
    assert claim is not None
    claim = claim | {"metadata": claim["metadata"] | {"creationTimestamp": format_time(NOW - timedelta(seconds=2))}}
    outcome = Outcome(snapshot.with_child(Kind.PVC, claim), None, Plan(), None, NOW)
    bound: Unstructured = {"storage": {"claimPhase": "Bound"}}
    assert claim_details_at(outcome, bound, DELAY) == after(3)
    assert claim_details_at(outcome, bound, DELAY / 5) is None
    assert claim_details_at(outcome, bound | {"phase": "Ready"}, DELAY) is None
    assert claim_details_at(Outcome(snapshot, None, Plan(), None, NOW), bound, DELAY) is None, "the claim is old"


def test_reconcile_follows_when_the_report_is_due() -> None:
    assert requeue_after(starting(2), after(3)) == 3
    assert requeue_after(deleting(2), None) is None
