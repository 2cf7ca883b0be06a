"""When a pod is replaced so that its volume is mounted again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW, desired_of, ready_pod, settled_snapshot, storage_object
from userstorage_operator.api.timestamps import format_time
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import planner, remount

ALICE = storage_object()
"""Her startTimeout is five minutes."""


def snapshot_with(container: dict[str, Any], ready_since: timedelta = timedelta(), remounts: int = 0) -> Snapshot:
    """Return a settled snapshot whose pod has not been ready since `NOW` - `ready_since`."""
    pod = ready_pod(desired_of(ALICE).pod, resourceVersion="7")
    pod["status"] = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": format_time(NOW - ready_since)}],
        "containerStatuses": [{"name": "filebrowser", "ready": False, "started": True, "restartCount": 0, **container}],
    }
    snapshot = settled_snapshot(ALICE)
    return replace(snapshot.with_children(replace(snapshot.children, pod=pod)), remounts=remounts)


def running(started: timedelta = timedelta(days=1)) -> dict[str, Any]:
    return {"state": {"running": {"startedAt": format_time(NOW - started)}}}


@pytest.mark.parametrize(("remounts", "minutes"), [(0, 5), (1, 10), (2, 20), (3, 40), (4, 60), (5000, 60)])
def test_patience_doubles_up_to_an_hour(remounts: int, minutes: int) -> None:
    assert remount.due_at(snapshot_with(running(), remounts=remounts)) == NOW + timedelta(minutes=minutes)


def test_restart_of_the_container_starts_the_time_again() -> None:
    crashing = snapshot_with(running(timedelta(minutes=1)), ready_since=timedelta(hours=1))
    assert remount.due_at(crashing) == NOW + timedelta(minutes=4)


@pytest.mark.parametrize(
    "container",
    [
        {"ready": True, **running()},
        {"started": False, **running()},
        {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}},
        {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}},
        {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
    ],
)
def test_other_failures_are_no_stale_mount(container: dict[str, Any]) -> None:
    assert remount.due_at(snapshot_with(container)) is None


@pytest.mark.parametrize("error", ["Transport endpoint is not connected", "stale NFS file handle", "Stale file handle"])
def test_container_that_cannot_start_on_a_stale_mount_counts(error: str) -> None:
    waiting = {"state": {"waiting": {"reason": "RunContainerError", "message": f"failed to stat /srv: {error}"}}}
    assert remount.due_at(snapshot_with({**waiting, "started": False})) == NOW + timedelta(minutes=5)


def test_pod_that_has_become_ready_since_is_not_deleted() -> None:
    due = snapshot_with(running(), ready_since=timedelta(minutes=5))
    deletion = planner.plan(due, NOW).pod_deletion
    assert deletion is not None
    assert deletion.unless_changed
    assert not deletion.requested
    waiting = snapshot_with(running(), ready_since=timedelta(minutes=4))
    plan = planner.plan(waiting, NOW)
    assert plan.pod_deletion is None
    assert NOW + timedelta(minutes=1) in plan.requeue_at
