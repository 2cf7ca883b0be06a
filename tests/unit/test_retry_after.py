"""The pause that the API server asks for counts, whatever fails after it."""

from typing import Any

import pytest

from support.builders import NOW, desired_of, storage_object, stored
from userstorage_operator.api.errors import Unavailable
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.reconcile.reconciler import Reconciler
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.status.outcome import Failure


class BusyServer:
    """An API server that asks for a pause of 40 seconds, but fails without such a request for the status."""

    async def busy(self, *_: Any, **__: Any) -> Any:
        raise Unavailable(429, "too many requests", retry_after=40)

    async def get(self, *_: Any) -> Any:
        return storage_object()

    async def merge_patch(self, *_: Any) -> Any:
        raise Unavailable(500, "the status cannot be written")

    def pages(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    list_all = create = json_patch = delete = busy


class NoRecorder:
    def record(self, *_: Any) -> None:
        """Drop the event."""


async def test_retry_after_is_kept_if_the_status_patch_fails_too() -> None:
    caches = Caches(lambda _: None, lambda _: None)
    raw = storage_object()
    caches.cache(USER_STORAGES).event("ADDED", raw)
    rollouts = RolloutTracker(lambda _: None, lambda _: None)
    result = await Reconciler(BusyServer(), caches, rollouts, NoRecorder(), lambda: NOW).reconcile(Key.of(raw), 0)
    assert (result.action, result.retry, result.retry_after) == ("patch UserStorage status", True, 40)


class RecordingServer(BusyServer):
    """An API server that stores the status, and answers nothing else."""

    async def merge_patch(self, *args: Any) -> Any:
        return storage_object() | {"status": args[3]["status"]}


@pytest.mark.parametrize("terminating", [True, False])
async def test_failure_that_waits_for_a_change_is_reconciled_again_when_its_status_changes(terminating: bool) -> None:
    raw = storage_object(podMetadata={"labels": {"team": "red"}})  # NotAllowedByClass
    caches = Caches(lambda _: None, lambda _: None)
    caches.cache(USER_STORAGES).event("ADDED", raw)
    deletion = {"deletionTimestamp": "2026-01-31T12:00:30Z"} if terminating else {}
    pod = stored(desired_of(storage_object()).pod, creationTimestamp="2026-01-31T11:59:50Z", **deletion)
    caches.cache(Kind.POD.resource).event("ADDED", pod)
    rollouts = RolloutTracker(lambda _: None, lambda _: None)
    result = await Reconciler(RecordingServer(), caches, rollouts, NoRecorder(), lambda: NOW).reconcile(Key.of(raw), 0)
    assert (result.reason, result.retry) == ("NotAllowedByClass", False)
    assert result.requeue_after is not None, "the start of the pod, or its end, times out"


def test_next_retry_is_not_before_the_pause_that_was_asked_for() -> None:
    failure = Failure.of(Unavailable(429, "later", retry_after=40), 1, NOW)
    assert failure.next_retry is not None
    assert (failure.next_retry - NOW).total_seconds() == 40
