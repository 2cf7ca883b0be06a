"""When a pod is replaced so that its volume is mounted again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from support.builders import NOW, desired_of, ready_pod, settled_snapshot, storage_object
from userstorage_operator.api.timestamps import format_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, UserStorage
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import planner, remount
from userstorage_operator.plan.steps import Plan
from userstorage_operator.reconcile.apply import Applier
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.status.conditions import ready, stalled
from userstorage_operator.status.outcome import Outcome

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


LONGEST_START = timedelta(minutes=5)
"""As long as the startup probe may fail."""


def test_restart_of_the_container_starts_the_time_again() -> None:
    crashing = snapshot_with(running(timedelta(minutes=1)), ready_since=timedelta(hours=1))
    assert remount.due_at(crashing) == NOW - timedelta(minutes=1) + LONGEST_START + timedelta(minutes=5)


def test_slow_start_is_no_stale_mount() -> None:
    slow = snapshot_with(running(timedelta(minutes=7)), ready_since=timedelta(minutes=8))
    assert planner.plan(slow, NOW).pod_deletion is None
    assert remount.due_at(slow) == NOW - timedelta(minutes=7) + LONGEST_START + timedelta(minutes=5)
    same_second = snapshot_with(running(timedelta(minutes=7)), ready_since=timedelta(minutes=7))
    assert remount.due_at(same_second) == remount.due_at(slow)


def test_short_failure_costs_no_pod_however_short_the_start_timeout() -> None:
    quick = UserStorage.parse(storage_object(lifecycle={"startTimeout": "1s"}))
    for since, replaced in ((0, False), (59, False), (60, True)):
        snapshot = replace(snapshot_with(running(), ready_since=timedelta(seconds=since)), storage=quick)
        assert (planner.plan(snapshot, NOW).pod_deletion is not None) == replaced


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
    assert not deletion.requested
    waiting = snapshot_with(running(), ready_since=timedelta(minutes=4))
    plan = planner.plan(waiting, NOW)
    assert plan.pod_deletion is None
    assert NOW + timedelta(minutes=1) in plan.requeue_at


def test_replacement_is_announced_only_if_it_will_happen() -> None:
    second = snapshot_with(running(), ready_since=timedelta(minutes=5), remounts=1)  # timed out; due in another five minutes
    claim = second.children.pvc or {}
    gone = claim | {"metadata": claim["metadata"] | {"deletionTimestamp": "2026-01-31T11:59:50Z"}}
    of_a_share = storage_object(storage={"claimName": "user-storage-alice"})
    withdrawn = replace(second, storage=UserStorage.parse(of_a_share))  # the claim does not have the label
    for snapshot, announced in (
        (second, True),
        (second.with_children(replace(second.children, pvc=gone)), False),
        (withdrawn, False),
    ):
        outcome = Outcome(snapshot, planner.plan(snapshot, NOW).desired, Plan(), failure=None, now=NOW)
        assert (planner.plan(snapshot, NOW + timedelta(minutes=5)).pod_deletion is not None) == announced
        for condition in (ready(outcome), stalled(outcome)):
            assert ("is replaced at" in condition.message) == announced


class Server:
    """An API server that has the UserStorage and its claim, and deletes pods at once."""

    async def get(self, *_: Any) -> Unstructured:
        return ALICE

    async def delete(self, *_: Any) -> Unstructured:
        return {"kind": "Status"}

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    create = merge_patch = json_patch = list_all = unasked


@pytest.mark.parametrize(("restarted_at", "remounts"), [(None, 4), ("2026-01-31T12:00:00Z", None)])
async def test_restart_by_the_user_starts_the_patience_again(restarted_at: str | None, remounts: int | None) -> None:
    caches, key = Caches(lambda _: None, lambda _: None), Key("users", "alice")
    state = LocalState.new(lambda: NOW, caches)
    state.remounts[key] = 3
    snapshot = snapshot_with(running(), ready_since=timedelta(hours=2), remounts=3)
    meta = replace(snapshot.storage.meta, restarted_at=restarted_at)
    snapshot = replace(snapshot, storage=replace(snapshot.storage, meta=meta))
    await Applier(Server(), caches, state).apply(planner.plan(snapshot, NOW), snapshot, NOW)
    assert state.remounts.get(key) == remounts
