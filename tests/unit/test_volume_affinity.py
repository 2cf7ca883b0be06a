"""When the mounts of foreign pods are inspected, and how they constrain the node of our pod."""

from dataclasses import replace
from datetime import timedelta

import pytest

from support.builders import NOW, bound_claim, desired_of, settled_snapshot, storage_object, stored
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.claim_usage import Mount, mount_failure, mounts_of
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.planner import plan_changes
from userstorage_operator.plan.steps import Create, DeletePod, InspectMounts, Plan

RAW = storage_object()
MOUNT_NODE_1 = Mount("backup", "node-1")
MOUNT_NODE_2 = Mount("scan", "node-2")


def snapshot_with(pod: Unstructured | None, *mounts: Mount, mode: str = "ReadWriteOnce") -> Snapshot:
    snapshot = settled_snapshot(RAW)
    claim = bound_claim(desired_of(RAW).pvc or {})
    claim = claim | {"spec": claim["spec"] | {"accessModes": [mode]}}
    snapshot = snapshot.with_children(replace(snapshot.children, pod=pod, pvc=claim))
    return replace(snapshot, claim_context=replace(snapshot.claim_context, mounts=mounts))


def plan_for(snapshot: Snapshot) -> Plan:
    return plan_changes(snapshot, desired_of(RAW), NOW)


def following_pod(node: str = "node-1") -> Unstructured:
    """Return our pod with node affinity for a node on which it cannot be scheduled."""
    pod = volume_affinity.with_volume_affinity(desired_of(RAW).pod, snapshot_with(None, Mount("backup", node)))
    refusal = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes are available"}
    return stored(pod) | {"status": {"phase": "Pending", "conditions": [refusal]}}


def waiting_pod(**status: object) -> Unstructured:
    """Return our pod on a node, scheduled at 11:59:00 (the builders' time), without a started container."""
    pod = stored(desired_of(RAW).pod)
    waiting = [{"name": "filebrowser", "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}}}]
    return pod | {
        "spec": pod["spec"] | {"nodeName": "node-1"},
        "status": {"phase": "Pending", "containerStatuses": waiting, **status},
    }


def test_pod_on_free_volume_has_no_affinity() -> None:
    [step] = plan_for(snapshot_with(None)).steps
    assert step == Create(Kind.POD, desired_of(RAW).pod)


def test_volume_affinity_does_not_change_pod_hash() -> None:
    [step] = plan_for(snapshot_with(None, MOUNT_NODE_1, Mount("other", "node-1"))).steps
    assert isinstance(step, Create)
    [term] = step.body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchFields"][0]["values"] == ["node-1"]
    assert step.body["metadata"] == desired_of(RAW).pod["metadata"]
    assert "affinity" not in desired_of(RAW).pod["spec"]


@pytest.mark.parametrize(
    ("mode", "mounts"), [("ReadWriteOnce", (MOUNT_NODE_1, MOUNT_NODE_2)), ("ReadWriteOncePod", (MOUNT_NODE_1,))]
)
def test_unattachable_volume_defers_pod_and_requeues(mode: str, mounts: tuple[Mount, ...]) -> None:
    plan = plan_for(snapshot_with(None, *mounts, mode=mode))
    assert (plan.steps, plan.hold, plan.requeue_at) == ((), "StorageNotReady", (NOW + timedelta(seconds=15),))


@pytest.mark.parametrize(
    ("mounts", "replaced"),
    [((), True), ((MOUNT_NODE_2,), True), ((MOUNT_NODE_1,), False), ((MOUNT_NODE_1, MOUNT_NODE_2), False)],
)
def test_unschedulable_pod_is_replaced_when_volume_moves(mounts: tuple[Mount, ...], replaced: bool) -> None:
    plan = plan_for(snapshot_with(following_pod(), *mounts))
    if replaced:
        [step] = plan.steps
        assert isinstance(step, DeletePod)
        assert step.requested  # a requested deletion is no loss, so the next pod has no backoff
    else:
        assert plan == Plan(requeue_at=(NOW + timedelta(seconds=15),))


def test_pod_is_kept_while_mounts_of_its_volume_are_unknown() -> None:
    snapshot = snapshot_with(following_pod())
    [step] = plan_for(replace(snapshot, claim_context=replace(snapshot.claim_context, mounts=None))).steps
    assert isinstance(step, InspectMounts)


def test_only_bound_single_node_volume_is_exclusive() -> None:
    claim = bound_claim(desired_of(RAW).pvc or {})
    shared = claim | {"spec": claim["spec"] | {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}
    pending = claim | {"status": {"phase": "Pending"}}
    assert [volume_affinity.is_exclusive(pvc) for pvc in (claim, shared, pending, None)] == [True, False, False, False]


def test_mounts_are_those_of_running_pods_with_node() -> None:
    def pod(name: str, claim: str = "photos", phase: str = "Running", **spec: str) -> Unstructured:
        volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "files", "persistentVolumeClaim": {"claimName": claim}}]
        return {"metadata": {"name": name}, "spec": {"volumes": volumes, **spec}, "status": {"phase": phase}}

    pods = [
        pod("runs", nodeName="b"),
        pod("ended", phase="Succeeded", nodeName="a"),
        pod("waits", phase="Pending"),
        pod("else", claim="music", nodeName="a"),
        pod("starts", phase="Pending", nodeName="a"),
        {"metadata": {"name": "bare"}, "spec": {"nodeName": "a"}},
    ]
    assert mounts_of("photos", pods) == (Mount("starts", "a"), Mount("runs", "b"))


def test_events_are_read_periodically_only_for_slow_mount() -> None:
    snapshot = snapshot_with(waiting_pod())
    due = NOW - timedelta(seconds=50)  # ten seconds after its creation
    assert volume_affinity.events_due_at(snapshot, NOW) == due
    read = replace(snapshot, claim_context=replace(snapshot.claim_context, events_read_at=NOW))
    assert plan_for(read).requeue_at == (NOW + timedelta(seconds=15),)
    sandbox = {"type": "PodReadyToStartContainers", "status": "True"}
    assert (
        volume_affinity.events_due_at(snapshot_with(waiting_pod(conditions=[sandbox])), NOW) is None
    )  # an image is being pulled
    assert volume_affinity.events_due_at(snapshot_with(waiting_pod(phase="Running")), NOW) is None
    assert volume_affinity.events_due_at(settled_snapshot(RAW), NOW) is None


def event(reason: str, message: str, **fields: object) -> Unstructured:
    created = {"creationTimestamp": "2026-01-31T11:00:00Z"}
    return {"metadata": created, "reason": reason, "message": message, "lastTimestamp": None, "series": None, **fields}


def test_newest_event_is_found_in_any_time_format() -> None:
    old = event("FailedMount", "old", lastTimestamp="2026-01-31T11:58:00Z")
    series = {"lastObservedTime": "2026-01-31T11:59:30.123456Z"}
    newer = event("FailedAttachVolume", "Multi-Attach error", eventTime="2026-01-31T11:00:00.000000Z", series=series)
    other = event("FailedAttachVolume", "no such disk", lastTimestamp="2026-01-31T11:59:40Z")
    attached = event("SuccessfulAttachVolume", "done", lastTimestamp="2026-01-31T11:59:50Z")
    unrelated = event("Scheduled", "to a node", lastTimestamp="2026-01-31T11:59:59Z")
    assert mount_failure([]) is None
    assert mount_failure([unrelated]) is None
    assert mount_failure([old, event("FailedMount", "older")]) == Finding("FailedMount", "old")
    assert mount_failure([newer, old, unrelated]) == Finding("MultiAttach", "Multi-Attach error")
    assert mount_failure([other, old]) == Finding("FailedMount", "no such disk")
    assert mount_failure([attached, other, newer]) is None


def test_attach_failure_outranks_mount_timeout() -> None:
    # The attach controller and the kubelet report one fault in turn.
    multi = event("FailedAttachVolume", "Multi-Attach error", lastTimestamp="2026-01-31T11:58:00Z")
    waits = event("FailedMount", "timed out waiting for the condition", lastTimestamp="2026-01-31T11:59:00Z")
    attached = event("SuccessfulAttachVolume", "done", lastTimestamp="2026-01-31T11:58:30Z")
    again = event("FailedAttachVolume", "Multi-Attach error again", lastTimestamp="2026-01-31T11:58:40Z")
    assert mount_failure([waits, multi]) == Finding("MultiAttach", "Multi-Attach error")
    assert mount_failure([waits, multi, attached]) == Finding("FailedMount", "timed out waiting for the condition")
    assert mount_failure([waits, multi, attached, again]) == Finding("MultiAttach", "Multi-Attach error again")


@pytest.mark.parametrize(("waited", "pause"), [(None, 15), (0, 15), (60, 15), (120, 30), (3600, 300), (-600, 15)])
def test_pauses_between_two_looks_at_a_missing_claim_grow(waited: float | None, pause: float) -> None:
    since = NOW - timedelta(seconds=waited) if waited is not None else None
    snapshot = settled_snapshot(RAW)
    snapshot = replace(snapshot, claim_context=replace(snapshot.claim_context, waiting_since=since))
    assert volume_affinity.claim_recheck_at(snapshot, NOW) == NOW + timedelta(seconds=pause)
