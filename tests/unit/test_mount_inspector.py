"""The requests that inspecting mounts costs: only pods that wait for a volume cost any, new users none."""

import asyncio
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from support.builders import NOW, desired_of, settled_snapshot, snapshot_of, storage_object, stored
from userstorage_operator.api.errors import Refused
from userstorage_operator.api.resources import CORE_EVENTS, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.claim_usage import MOUNT_REASONS, Mount
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.planner import plan_changes, plan_deletion
from userstorage_operator.plan.steps import Inspection, InspectMounts, Plan
from userstorage_operator.reconcile import mount_inspector
from userstorage_operator.reconcile.apply import Applier
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.mount_inspector import MountInspector
from userstorage_operator.reconcile.observe import with_mount_events

RAW = storage_object()


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_inspector, "_PAUSE", 0.0)
    monkeypatch.setattr(mount_inspector, "_SHARE", 0.0)


BACKUP: Unstructured = {
    "metadata": {"name": "backup", "namespace": "users"},
    "spec": {"nodeName": "node-1", "volumes": [{"persistentVolumeClaim": {"claimName": "user-storage-alice"}}]},
}
FAILED: Unstructured = {
    "metadata": {},
    "involvedObject": {"kind": "Pod", "uid": "uid-Pod"},
    "reason": "FailedMount",
    "message": "no such export",
    "lastTimestamp": "2026-01-31T11:59:30Z",
}


class ListServer:
    """An API server that serves only lists and records each list request."""

    def __init__(self, answers: dict[Resource, list[Unstructured]]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, str]] = []

    async def pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> AsyncIterator[list[Unstructured]]:
        self.asked.append((resource.plural, selector, fields))
        await asyncio.sleep(0)
        if resource not in self.answers:
            raise Refused(403, "not for you")
        yield [obj for obj in self.answers[resource] if not fields or fields.startswith(f"reason={obj['reason']},")]

    async def unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    get = list_all = create = merge_patch = json_patch = delete = unasked


class Inspections:
    """Reconciles of one process, of which only the inspections are applied."""

    def __init__(self, cluster: ListServer) -> None:
        caches = Caches(lambda _: None, lambda _: None)
        self.state = LocalState.new(lambda: NOW, caches)
        self.applier = Applier(cluster, caches, self.state)

    def apply(self, snapshot: Snapshot, now: datetime = NOW) -> Snapshot:
        unknown = replace(snapshot, claim_context=replace(snapshot.claim_context, mounts=None))
        snapshot = with_mount_events(unknown, self.state)
        steps = plan_changes(snapshot, desired_of(RAW), now).steps
        answered = (InspectMounts(None) if isinstance(step, InspectMounts) else step for step in steps)
        plan = Plan(tuple(step for step in answered if isinstance(step, Inspection)))
        return asyncio.run(self.applier.apply(plan, snapshot, now)).snapshot


def waiting_snapshot() -> Snapshot:
    """Return a snapshot in which our pod was scheduled a minute ago and no container has started."""
    snapshot = settled_snapshot(RAW)
    pod = stored(desired_of(RAW).pod)
    pod = pod | {"spec": pod["spec"] | {"nodeName": "node-1"}, "status": {"phase": "Pending"}}
    return snapshot.with_children(replace(snapshot.children, pod=pod))


def test_new_users_and_unchanged_users_cost_no_request() -> None:
    cluster = ListServer({})
    for snapshot in (snapshot_of(RAW), settled_snapshot(RAW)):
        assert Inspections(cluster).apply(snapshot).claim_context.mounts is None
    assert cluster.asked == []


def test_new_pod_on_bound_claim_costs_one_request() -> None:
    cluster = ListServer({Kind.POD.resource: [BACKUP]})
    snapshot = settled_snapshot(RAW)
    result = Inspections(cluster).apply(snapshot.with_children(replace(snapshot.children, pod=None)))
    assert result.claim_context.mounts == (Mount("backup", "node-1"),)
    assert cluster.asked == [("pods", "userstorage.dev/managed-by!=userstorage-operator", "")]


async def ask_about(inspector: MountInspector, user: str) -> tuple[Mount, ...]:
    raw = storage_object(user)
    return await inspector.mounts(settled_snapshot(raw))


def pod_on(claim: str) -> Unstructured:
    return {
        "metadata": {"name": f"of-{claim}", "namespace": "users"},
        "spec": {"nodeName": "node-1", "volumes": [{"persistentVolumeClaim": {"claimName": claim}}]},
    }


async def test_users_that_ask_at_the_same_time_share_one_list() -> None:
    users = [f"u{number}" for number in range(300)]
    cluster = ListServer({Kind.POD.resource: [pod_on(f"user-storage-{user}") for user in users]})
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    found = await asyncio.gather(*(ask_about(inspector, user) for user in users))
    assert found == [(Mount(f"of-user-storage-{user}", "node-1"),) for user in users]
    assert len(cluster.asked) == 1


async def test_question_is_answered_by_a_list_that_has_started_recently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_inspector, "_FRESH", 0.2)
    cluster = ListServer({Kind.POD.resource: []})
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    await ask_about(inspector, "alice")
    cluster.answers[Kind.POD.resource] = [pod_on("user-storage-bob")]
    assert await ask_about(inspector, "bob") == ()
    assert len(cluster.asked) == 1
    await asyncio.sleep(0.3)
    assert await ask_about(inspector, "bob") == (Mount("of-user-storage-bob", "node-1"),)
    assert len(cluster.asked) == 2


async def test_question_during_a_long_list_is_answered_by_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_inspector, "_FRESH", -1.0)
    cluster = ListServer({Kind.POD.resource: []})
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    first = asyncio.create_task(ask_about(inspector, "alice"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(cluster.asked) == 1
    cluster.answers[Kind.POD.resource] = [pod_on("user-storage-bob")]
    later = [asyncio.create_task(ask_about(inspector, "bob")) for _ in range(9)]
    await asyncio.gather(first, *later)
    assert {task.result() for task in later} == {(Mount("of-user-storage-bob", "node-1"),)}
    assert len(cluster.asked) == 2


class CrowdedNamespaces(ListServer):
    """An API server with thousands of pods of others in each namespace, in pages of a hundred, none of which may be kept."""

    def __init__(self, pods: int) -> None:
        super().__init__({})
        self.pods = pods
        self.lists = 0
        self.running = 0
        self.most_running = 0
        self.sent: list[weakref.ref[Any]] = []
        self.most_held = 0

    async def pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> AsyncIterator[list[Unstructured]]:
        self.lists += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        for start in range(0, self.pods, 100):
            await asyncio.sleep(0)
            page = [SentPod(pod_on(f"data-{number}")) for number in range(start, start + 100)]
            self.sent += map(weakref.ref, page)
            self.sent = [sent for sent in self.sent if sent() is not None]
            self.most_held = max(self.most_held, len(self.sent))
            yield cast("list[Unstructured]", page)
            del page
        self.running -= 1


class SentPod(dict[str, Any]):
    """A pod as the API server sent it; a plain dict has no weak references."""


async def test_a_mass_resume_in_a_crowded_namespace_costs_few_lists_and_holds_few_pods() -> None:
    cluster = CrowdedNamespaces(3000)
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    workers = asyncio.Semaphore(32)

    async def resume(number: int) -> None:
        async with workers:
            assert await ask_about(inspector, f"u{number}") == ()
            await asyncio.sleep(0)  # the pod is created

    await asyncio.gather(*map(resume, range(300)))
    assert cluster.lists <= 1 + 300 / 32
    assert cluster.most_held <= 300


async def test_lists_of_many_namespaces_wait_for_each_other() -> None:
    cluster = CrowdedNamespaces(500)
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    snapshots = [settled_snapshot(storage_object(meta={"namespace": f"team-{number}"})) for number in range(32)]
    await asyncio.gather(*map(inspector.mounts, snapshots))
    assert cluster.lists == 32
    assert cluster.most_running <= 4
    assert cluster.most_held <= 4 * 200


async def test_failure_of_a_shared_list_reaches_all_and_the_next_list_is_tried() -> None:
    cluster = ListServer({})
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    failed = await asyncio.gather(*(ask_about(inspector, user) for user in ("alice", "bob")), return_exceptions=True)
    assert [type(error) for error in failed] == [Refused, Refused]
    cluster.answers[Kind.POD.resource] = [pod_on("user-storage-alice")]
    assert await ask_about(inspector, "alice") == (Mount("of-user-storage-alice", "node-1"),)


def test_events_are_read_every_fifteen_seconds_and_cached() -> None:
    cluster = ListServer({CORE_EVENTS: [FAILED]})
    inspections = Inspections(cluster)
    for seconds in (0, 5, 14, 15, 20):
        result = inspections.apply(waiting_snapshot(), NOW + timedelta(seconds=seconds))
        assert result.claim_context.mount_failure == Finding("FailedMount", "no such export")
    reading = [("events", "", f"reason={reason},involvedObject.kind=Pod") for reason in MOUNT_REASONS]
    assert cluster.asked == reading * 2


def test_events_are_read_again_after_clock_set_back() -> None:
    # The events were read at a time that is in the future once the clock is set back.
    cluster = ListServer({CORE_EVENTS: [FAILED]})
    inspections = Inspections(cluster)
    assert inspections.apply(waiting_snapshot(), NOW + timedelta(hours=1)).claim_context.mount_failure is not None
    cluster.answers[CORE_EVENTS] = []
    assert inspections.apply(waiting_snapshot()).claim_context.mount_failure is None


def test_suspension_and_deletion_cost_no_request() -> None:
    # A user whose pod cannot be scheduled on the volume's node can be suspended and deleted without the right to list
    # pods.
    on_node = replace(settled_snapshot(RAW).claim_context, mounts=(Mount("backup", "node-1"),))
    bound = stored(
        volume_affinity.with_volume_affinity(desired_of(RAW).pod, replace(settled_snapshot(RAW), claim_context=on_node))
    )
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"}
    pod = bound | {"status": {"phase": "Pending", "conditions": [unschedulable]}}
    for raw in (storage_object(replicas=0), storage_object(meta={"deletionTimestamp": "2026-01-31T11:59:00Z"})):
        snapshot = settled_snapshot(raw)
        snapshot = snapshot.with_children(replace(snapshot.children, pod=pod))
        assert volume_affinity.is_stuck_on_node(snapshot)
        plan = plan_changes(snapshot, desired_of(raw), NOW) if snapshot.storage.suspended else plan_deletion(snapshot)
        assert plan.pod_deletion is not None
        assert not any(isinstance(step, Inspection) for step in plan.steps)


def test_mount_failure_of_former_pod_is_not_reported() -> None:
    cluster = ListServer({CORE_EVENTS: [FAILED]})
    inspections = Inspections(cluster)
    inspections.apply(waiting_snapshot())
    cluster.answers[CORE_EVENTS] = []
    snapshot = waiting_snapshot()
    pod = snapshot.children.pod or {}
    again = pod | {"metadata": pod["metadata"] | {"uid": "uid-next"}}
    assert inspections.apply(snapshot.with_children(replace(snapshot.children, pod=again))).claim_context.mount_failure is None


def test_events_of_recently_created_pod_are_not_requested() -> None:
    cluster = ListServer({})
    Inspections(cluster).apply(waiting_snapshot(), NOW - timedelta(seconds=51))  # nine seconds after its creation
    assert cluster.asked == []


def test_mount_failure_is_unknown_if_events_are_forbidden() -> None:
    assert Inspections(ListServer({})).apply(waiting_snapshot()).claim_context.mount_failure is None


class Flood(ListServer):
    """An API server with any number of Events about each of the given pods, in pages of a hundred."""

    def __init__(self, *uids: str, size: int) -> None:
        super().__init__({})
        self.uids = uids
        self.size = size
        self.pages_sent = 0

    async def pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> AsyncIterator[list[Unstructured]]:
        self.asked.append((resource.plural, namespace or "", fields))
        for uid in self.uids:
            event = FAILED | {"involvedObject": {"uid": uid}, "message": "x" * 10_000}
            for _ in range(self.size):
                self.pages_sent += 1
                yield [event] * 100 if fields.startswith("reason=FailedMount,") else []


def waiting_pod(uid: str, namespace: str = "users") -> Unstructured:
    return {"metadata": {"namespace": namespace, "name": f"pod-{uid}", "uid": uid}}


async def test_number_of_waiting_pods_costs_no_request() -> None:
    cluster = Flood(*map(str, range(300)), size=0)
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    for seconds in (0, 5, 14):
        await asyncio.gather(*(inspector.events(waiting_pod(str(n)), NOW + timedelta(seconds=seconds)) for n in range(300)))
    assert len(cluster.asked) == 2 * len(MOUNT_REASONS)


async def test_readings_of_many_namespaces_share_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_inspector, "_PAUSE", 0.1)
    cluster = Flood(size=0)
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    started = time.monotonic()
    await asyncio.gather(*(inspector.events(waiting_pod(str(n), f"n{n}"), NOW) for n in range(100)))
    assert len(cluster.asked) == len(MOUNT_REASONS), "only the first namespace is read while its pod waits"
    await asyncio.sleep(0.35)
    readings = len(cluster.asked) / len(MOUNT_REASONS)
    assert 2 <= readings <= 1 + (time.monotonic() - started) / 0.1


async def test_events_that_a_tenant_floods_are_read_and_kept_in_part() -> None:
    cluster = Flood("1", "unknown", size=1000)
    inspector = MountInspector(cluster, Caches(lambda _: None, lambda _: None))
    result = await inspector.events(waiting_pod("1"), NOW)
    assert result.failure == Finding("FailedMount", "x" * 1024)
    assert cluster.pages_sent < 60 + 2 * 2 * 1000
