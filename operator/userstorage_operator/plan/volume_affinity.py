"""Volumes that only one node can mount: a new pod runs on the node where other pods mount its volume, or waits."""

from datetime import datetime, timedelta

from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.claim_usage import Mount, single_node
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot, is_terminating

RECHECK_INTERVAL = timedelta(seconds=15)
"""How often to read facts that no watch delivers: claims, pods and events of other controllers."""
_LONGEST_RECHECK = timedelta(minutes=5)
"""How often to read a fact for which a pod has waited for long."""
_MOUNT_TIME = timedelta(seconds=10)
"""How long the mount of a volume may take before the pod's events are read."""


def is_exclusive(claim: Unstructured | None) -> bool:
    """Whether the claim has a volume that only one node, or only one pod, can mount at a time."""
    return claim is not None and claim.get("status", {}).get("phase") == "Bound" and single_node(claim)


def with_volume_affinity(pod: Unstructured, snapshot: Snapshot) -> Unstructured:
    """Return the desired pod; if other pods mount its volume, with a node affinity that pins it to their node.

    The affinity is not part of the pod hash: it depends on the cluster, not on the spec.
    """
    nodes = {mount.node for mount in _mounts(snapshot)}
    if not nodes:
        return pod
    [node] = nodes
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    return pod | {"spec": pod["spec"] | {"affinity": affinity}}


def pod_blocked_reason(snapshot: Snapshot) -> str | None:
    """Return why a new pod cannot mount the volume while other pods mount it; None if a new pod can."""
    mounts, claim = _mounts(snapshot), snapshot.children.pvc
    if not mounts or claim is None:
        return None
    if "ReadWriteOncePod" in claim["spec"].get("accessModes", ()):
        return f"claim {claim['metadata']['name']!r} is ReadWriteOncePod and mounted by {_format_mounts(mounts)}"
    if len({mount.node for mount in mounts}) > 1:
        return f"claim {claim['metadata']['name']!r} is ReadWriteOnce and mounted on several nodes: {_format_mounts(mounts)}"
    return None


def is_stuck_on_node(snapshot: Snapshot) -> bool:
    """Whether our pod is pinned to the node of its volume, and the scheduler reports that it cannot run there."""
    pod = snapshot.own_pod
    if pod is None or is_terminating(pod):
        return False
    return _pinned_node(pod) is not None and pod_status.unschedulable(pod) is not None


def rescheduling_reason(snapshot: Snapshot) -> str | None:
    """Return why a pod that `is_stuck_on_node` should be replaced: its volume is no longer on that node.

    None if the pod should not be replaced, or if it is not known which pods mount the volume.
    """
    pod, mounts = snapshot.children.pod, snapshot.claim_context.mounts
    if pod is None or mounts is None or not is_stuck_on_node(snapshot) or pod_blocked_reason(snapshot) is not None:
        return None
    nodes = {mount.node for mount in mounts}
    return None if nodes == {_pinned_node(pod)} else f"its volume is no longer on node {_pinned_node(pod)}"


def volume_problem(snapshot: Snapshot) -> Finding | None:
    """Return why our pod cannot mount its volume: other pods mount it, or the mount fails. None if no cause is known."""
    pod = snapshot.children.pod
    if pod is None:
        reason = pod_blocked_reason(snapshot)
        return Finding("MultiAttach", reason) if reason is not None else None
    if is_stuck_on_node(snapshot) and (mounts := _mounts(snapshot)):
        cause = pod_status.unschedulable(pod)
        message = "the pod must run on the node where its volume is attached; the volume is mounted by"
        return Finding("MultiAttach", f"{message} {_format_mounts(mounts)}: {cause}")
    return snapshot.claim_context.mount_failure if mounting_since(snapshot) is not None else None


def mounting_since(snapshot: Snapshot) -> datetime | None:
    """Return when our pod was scheduled, if none of its containers has started yet; otherwise None."""
    pod = snapshot.own_pod
    if pod is None or is_terminating(pod) or not pod_status.is_mounting(pod):
        return None
    scheduled = pod_status.condition(pod, "PodScheduled") or {}
    return parse_time(scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def claim_recheck_at(snapshot: Snapshot, now: datetime) -> datetime:
    """Return when to look again at a claim that no watch delivers: in pauses that grow with the time that the pod has waited."""
    context = snapshot.claim_context
    return _next_look(context.waiting_since, now, max(RECHECK_INTERVAL, context.recheck_pause))


def _next_look(since: datetime | None, now: datetime, least: timedelta = RECHECK_INTERVAL) -> datetime:
    waited = max(now - since, timedelta()) if since is not None else timedelta()
    return now + min(max(least, waited / 4), _LONGEST_RECHECK)


def events_are_due(snapshot: Snapshot, now: datetime) -> bool:
    """Whether to read the Events of our pod now, to learn why its volume is not mounted yet."""
    due = events_due_at(snapshot, now)
    return due is not None and due <= now


def recheck_at(snapshot: Snapshot, now: datetime) -> tuple[datetime, ...]:
    """Return when to plan again for a pod that waits for its volume, even without an event; empty if it does not wait.

    A node that goes strands hundreds of pods at once, and each plan lists the pods of a namespace: the pauses grow.
    """
    if (pod := snapshot.own_pod) is not None and is_stuck_on_node(snapshot):
        scheduled = pod_status.condition(pod, "PodScheduled") or {}
        return (_next_look(parse_time(scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"]), now),)
    due = events_due_at(snapshot, now)
    return (due,) if due is not None else ()


def events_due_at(snapshot: Snapshot, now: datetime) -> datetime | None:
    """Return when to read the Events of our pod next; None if the pod does not wait for its volume to be mounted."""
    since, read_at = mounting_since(snapshot), snapshot.claim_context.events_read_at
    if since is None:
        return None
    # If `read_at` is in the future, the clock was set back since: the next read would come too late.
    return since + _MOUNT_TIME if read_at is None or read_at > now else read_at + RECHECK_INTERVAL


def _mounts(snapshot: Snapshot) -> tuple[Mount, ...]:
    return snapshot.claim_context.mounts or ()


def _pinned_node(pod: Unstructured) -> str | None:
    """Return the node to which `with_volume_affinity` pinned the pod; None if the pod is not pinned."""
    required = (
        (pod["spec"].get("affinity") or {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    )
    for term in required.get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            if field["key"] == "metadata.name" and field["operator"] == "In":
                return str(field["values"][0])
    return None


def _format_mounts(mounts: tuple[Mount, ...]) -> str:
    return ", ".join(f"pod {mount.pod!r} on node {mount.node!r}" for mount in mounts)
