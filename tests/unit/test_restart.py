"""The annotation userstorage.dev/restartedAt: the pod is replaced once for each value."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW, class_object, desired_of, ready_pod, settled_snapshot, snapshot_of, storage_object
from userstorage_operator.api.names import ANNOTATION_PAUSED, ANNOTATION_RESTARTED_AT
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.observed.backoff import BackoffState
from userstorage_operator.observed.kept import keep
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.steps import Create, DeletePod, Plan

NOON, LATER = "2026-01-31T12:00:00Z", "2026-01-31T12:05:00Z"


def restarted(at: str | None, **spec: Any) -> Unstructured:
    annotations = {ANNOTATION_RESTARTED_AT: at} if at is not None else {}
    return storage_object(meta={"annotations": annotations}, **spec)


def running(built_for: str | None, raw: Unstructured) -> Snapshot:
    """Return the snapshot of `raw` with a ready pod that was built for the restart `built_for`."""
    annotations = {ANNOTATION_RESTARTED_AT: built_for} if built_for is not None else {}
    before = raw | {"metadata": raw["metadata"] | {"annotations": annotations}}
    return replace(settled_snapshot(before), storage=snapshot_of(raw).storage)


@pytest.mark.parametrize(("built_for", "wanted", "restarts"), [
    (None, None, False),
    (None, NOON, True),
    (NOON, NOON, False),
    (NOON, LATER, True),
    (LATER, NOON, True),
    (NOON, None, False),
])  # fmt: skip
def test_pod_is_replaced_if_it_was_built_for_another_restart(built_for: str | None, wanted: str | None, restarts: bool) -> None:
    found = plan(running(built_for, restarted(wanted)), NOW)
    deletions = [step for step in found.steps if isinstance(step, DeletePod)]
    assert len(deletions) == len(found.steps) == int(restarts)
    for step in deletions:
        assert (step.grace_period, step.reason, step.by_rollout) == (30, "a restart was requested", False)
        assert step.only_if_claim_stays


def test_new_pod_carries_the_restart_it_was_built_for() -> None:
    raw = restarted(NOON)
    snapshot = settled_snapshot(raw)
    found = plan(snapshot.with_children(replace(snapshot.children, pod=None)), NOW)
    [create] = [step for step in found.steps if isinstance(step, Create)]
    assert create.body["metadata"]["annotations"][ANNOTATION_RESTARTED_AT] == NOON
    settled = snapshot.with_children(replace(snapshot.children, pod=ready_pod(create.body)))
    assert plan(settled, NOW).steps == ()


def test_restart_changes_no_hash() -> None:
    first, second = desired_of(restarted(None)), desired_of(restarted(NOON))
    assert (first.pod_hash, first.spec_hash) == (second.pod_hash, second.spec_hash)


def test_restart_waits_while_the_claim_is_deleted_and_is_not_forgotten() -> None:
    snapshot = running(None, restarted(NOON))
    claim = snapshot.children.pvc
    assert claim is not None
    leaving = claim | {"metadata": claim["metadata"] | {"deletionTimestamp": "2026-01-31T11:59:50Z"}}
    assert plan(snapshot.with_children(replace(snapshot.children, pvc=leaving)), NOW).steps == ()


def test_restart_overrides_update_strategy_and_rollout() -> None:
    raw = restarted(NOON, lifecycle={"updateStrategy": "WhenSuspended"})
    newer = UserStorageClass.parse(class_object(browser={"port": 9999}, rollout={"paused": True}))
    for storage in (raw, restarted(NOON)):
        snapshot = replace(running(None, storage), cls=newer, may_replace=False)
        [step] = [step for step in plan(snapshot, NOW).steps if isinstance(step, DeletePod)]
        assert (step.reason, step.by_rollout) == ("a restart was requested", False)


def test_restart_starts_no_suspended_user() -> None:
    raw = restarted(NOON, replicas=0)
    snapshot = settled_snapshot(raw)
    assert plan(snapshot.with_children(replace(snapshot.children, pod=None)), NOW) == Plan(desired=desired_of(raw))


def test_restarts_in_quick_succession_are_delayed() -> None:
    raw = restarted(NOON)
    [step] = [step for step in plan(running(None, raw), NOW).steps if isinstance(step, DeletePod)]
    assert not step.requested
    snapshot = settled_snapshot(raw)
    backoff = BackoffState(3, NOW + timedelta(seconds=9), "a restart was requested")
    waiting = replace(snapshot.with_children(replace(snapshot.children, pod=None)), pod_backoff=backoff)
    assert (plan(waiting, NOW).hold, plan(waiting, NOW).steps) == ("PodBackoff", ())


def test_cache_keeps_only_the_annotations_for_the_operator() -> None:
    annotations = {ANNOTATION_PAUSED: "true", ANNOTATION_RESTARTED_AT: "x" * 250_000, "example.org/note": "y"}
    raw = storage_object(meta={"annotations": annotations})
    kept = keep(USER_STORAGES)(raw)
    assert kept is not None
    assert kept["metadata"].pop("annotations") == {ANNOTATION_PAUSED: "true", ANNOTATION_RESTARTED_AT: "x" * 64}
    assert kept == keep(USER_STORAGES)(storage_object(meta={"annotations": {"a": "b"}}))
