"""Histories that the state machine has found, as tests of their own."""

import asyncio
from typing import Any

import pytest

from model.test_reconciler_model import NAMESPACE, ReconcilerMachine, child_key
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGES, Kind, Resource


def machine(loop: asyncio.AbstractEventLoop) -> Any:
    """Return a world in which alice is served."""
    return type("Machine", (ReconcilerMachine,), {"loop": loop})()


def test_pod_that_another_controller_has_just_adopted_is_not_deleted(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.oppose("alice", Kind.POD, "seize")  # the watch of pods has not shown it yet
    world.change("alice", {"replicas": 0})
    world.deliver(USER_STORAGES, 1)
    world.reconcile(0, informed=False)
    assert "deletionTimestamp" not in world.api.get(Kind.POD.resource, *child_key("alice"))["metadata"]
    world.wait(61)
    world.reconcile(0, informed=False)  # the watch is not needed: the refused deletion has read the pod
    ready, *_ = world.api.get(USER_STORAGES, NAMESPACE, "alice")["status"]["conditions"]
    assert ready["reason"] == "NameConflict"
    world.teardown()


@pytest.mark.parametrize(("changes", "deleted"), [(1, True), (2, True), (3, False)])
def test_pod_that_other_clients_keep_changing_is_deleted(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, changes: int, deleted: bool
) -> None:
    world = machine(loop)
    delete, notes = world.api.delete, iter(range(changes))

    def delete_after_a_change(resource: Resource, *args: Any, **kwargs: Any) -> Any:
        if resource == Kind.POD.resource and (note := next(notes, None)) is not None:
            patch = {"metadata": {"annotations": {"note": str(note)}}}
            world.api.merge_patch(resource, *child_key("alice"), patch, "opponent")
        return delete(resource, *args, **kwargs)

    monkeypatch.setattr(world.api, "delete", delete_after_a_change)
    world.change("alice", {"replicas": 0})
    world.deliver(USER_STORAGES, 1)
    world.reconcile(0, informed=False)
    assert ("deletionTimestamp" in world.api.get(Kind.POD.resource, *child_key("alice"))["metadata"]) == deleted
    world.teardown()


def test_released_policy_is_deleted_in_the_version_that_was_released(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.change_class("plain", {"network": {"policy": "None"}})
    world.world.work(world.world.operator)
    world.cluster("collect_garbage")
    assert world.api.find(Kind.NETWORK_POLICY.resource, *child_key("alice")) is None


@pytest.mark.parametrize("shown", [False, True], ids=["deletion-first", "label-first"])
def test_policy_without_label_is_released_although_its_user_is_gone(loop: asyncio.AbstractEventLoop, shown: bool) -> None:
    world = machine(loop)
    world.strip_finalizer("alice")
    if shown:
        world.oppose("alice", Kind.NETWORK_POLICY, "unlabel")
        world.deliver(Kind.NETWORK_POLICY.resource, 1)
    world.delete("alice", "Background")
    if not shown:
        world.oppose("alice", Kind.NETWORK_POLICY, "unlabel")
    world.teardown()
    assert world.api.find(Kind.NETWORK_POLICY.resource, *child_key("alice")) is None


@pytest.mark.parametrize("deed", ["orphan", "seize"])
@pytest.mark.parametrize("stripped", [False, True], ids=["finalizer", "no-finalizer"])
def test_foreground_deletion_ends_although_the_policy_waits_for_a_strange_pod(
    loop: asyncio.AbstractEventLoop, deed: str, stripped: bool
) -> None:
    world = machine(loop)
    world.delete("alice", "Foreground")
    if stripped:
        world.strip_finalizer("alice")
    world.oppose("alice", Kind.POD, deed)
    world.world.settle()
    assert world.api.find(USER_STORAGES, NAMESPACE, "alice") is None
    policy = world.api.find(Kind.NETWORK_POLICY.resource, *child_key("alice"))
    assert world.api.find(Kind.POD.resource, *child_key("alice")) is not None
    assert policy is not None
    world.oppose("alice", Kind.POD, "delete")
    world.teardown()
    assert world.api.find(Kind.NETWORK_POLICY.resource, *child_key("alice")) is None


def test_policy_that_was_released_for_a_class_without_policies_is_created_again(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.change_class("plain", {"network": {"policy": "None"}})
    world.reconcile(0, informed=True)
    world.change("alice", {"className": "exposing"})
    world.teardown()
    assert world.api.find(Kind.NETWORK_POLICY.resource, *child_key("alice")) is not None


def test_no_child_is_created_after_an_end_that_the_watch_has_not_shown(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.strip_finalizer("alice")
    world.delete("alice", "Background")
    world.oppose("alice", Kind.SERVICE, "delete")
    world.deliver(Kind.SERVICE.resource, 1)
    world.reconcile(0, informed=False)
    assert world.api.find(Kind.SERVICE.resource, *child_key("alice")) is None
    world.teardown()


def test_pod_on_a_claim_that_is_being_deleted_is_not_replaced(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.oppose("alice", Kind.PVC, "delete")
    world.change("alice", {"lifecycle": {"terminationGracePeriodSeconds": 5}})
    world.reconcile(0, informed=True)
    assert "deletionTimestamp" not in world.api.get(Kind.POD.resource, *child_key("alice"))["metadata"]
    world.teardown()


def test_policy_is_released_after_a_pod_that_no_watch_shows(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.strip_finalizer("alice")
    world.delete("alice", "Background")
    world.oppose("alice", Kind.POD, "unlabel")
    world.teardown()
    assert world.api.find(Kind.NETWORK_POLICY.resource, *child_key("alice")) is None


def test_child_that_another_controller_has_just_adopted_is_not_repaired(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.oppose("alice", Kind.SERVICE, "edit")
    world.deliver(Kind.SERVICE.resource, 1)
    world.oppose("alice", Kind.SERVICE, "seize")  # the watch has not shown it yet
    world.reconcile(0, informed=False)
    owners = world.api.get(Kind.SERVICE.resource, *child_key("alice"))["metadata"]["ownerReferences"]
    assert [owner["kind"] for owner in owners] == ["Other"]
    world.teardown()


def test_what_no_watch_has_shown_is_found_by_the_sweep(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.oppose("alice", Kind.SERVICE, "delete")
    world.lose_events(Kind.SERVICE.resource, relists=False, stale_by=0)
    world.teardown()
    assert world.api.find(Kind.SERVICE.resource, *child_key("alice")) is not None


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_orphaned_policy_goes_if_the_next_owner_of_the_user_id_wants_none(loop: asyncio.AbstractEventLoop, late: bool) -> None:
    world = machine(loop)
    if not late:
        world.change_class("exposing", {"network": {"policy": "None"}})
    world.create("twin", {"className": "exposing"})
    world.delete("alice", "Orphan")
    if late:
        world.change_class("exposing", {"network": {"policy": "None"}})
    world.teardown()
    assert world.api.find(Kind.NETWORK_POLICY.resource, *child_key("alice")) is None


def test_end_of_an_orphaned_pod_that_no_watch_shows_is_not_awaited(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.change("alice", {"replicas": 0})
    world.oppose("alice", Kind.POD, "orphan")
    world.reconcile(0, informed=True)
    world.oppose("alice", Kind.POD, "unlabel")
    world.sweep(0)  # finds the pod without label
    world.teardown()


def test_no_child_is_created_after_a_loss_of_the_finalizer_that_the_watch_has_not_shown(
    loop: asyncio.AbstractEventLoop,
) -> None:
    world = machine(loop)
    world.oppose("alice", Kind.SERVICE, "delete")
    world.deliver(Kind.SERVICE.resource, 1)
    world.strip_finalizer("alice")
    world.reconcile(0, informed=False)  # the watchdog refuses a child without finalizer
    assert world.api.find(Kind.SERVICE.resource, *child_key("alice")) is None
    world.teardown()


def test_pod_that_was_read_before_its_deletion_failed_is_not_reported_as_before(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.annotate("alice", names.ANNOTATION_RESTARTED_AT, 0)
    world.deliver(USER_STORAGES, 1)
    world.pod_fails("alice", "Failed")  # the watch of pods has not shown it yet
    world.reconcile_refused(number=0, informed=False, at=2, after=False, conflicts=False)  # the watchdog refuses a false status
    world.teardown()


def test_pod_that_follows_an_orphaned_one_on_the_same_volume_differs_in_its_node_only(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.oppose("alice", Kind.POD, "delete")
    world.oppose("alice", Kind.NETWORK_POLICY, "unlabel")
    world.oppose("alice", Kind.POD, "unlabel")
    world.oppose("alice", Kind.POD, "orphan")
    world.teardown()


@pytest.mark.parametrize("kind", [Kind.POD, Kind.SERVICE])
def test_child_that_shows_no_origin_is_left_alone(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    world = machine(loop)
    for deed in ("unlabel", "orphan", "relabel"):
        world.oppose("alice", kind, deed)
    child = world.api.get(kind.resource, *child_key("alice"))
    world.change("alice", {"replicas": 0})
    world.deliver(USER_STORAGES, 1)
    world.reconcile(0, informed=False)
    world.reconcile(0, informed=True)
    assert world.api.get(kind.resource, *child_key("alice")) == child
    world.teardown()


def test_pod_without_files_that_loses_its_owner_is_replaced_all_the_same(loop: asyncio.AbstractEventLoop) -> None:
    world = machine(loop)
    world.wait(6)
    world.pod_fails("alice", "unready")
    world.wait(400)
    world.oppose("alice", Kind.POD, "orphan")
    world.teardown()
