"""A volume that only one node can have: a new pod follows the pods that mount it already, or waits for them."""

from datetime import datetime, timedelta

from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.claim_usage import Mount
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot, is_ours, is_terminating

RECHECK_INTERVAL = timedelta(seconds=15)
"""How often to look at what no watch shows: claims, pods and events of others."""
_MOUNT_TIME = timedelta(seconds=10)
"""How long a volume may take to be mounted before anybody asks why."""


def is_exclusive(claim: Unstructured | None) -> bool:
    """Whether the claim has a volume that only one node, or only one pod, can have at a time."""
    if claim is None or claim.get("status", {}).get("phase") != "Bound":
        return False
    modes = claim["spec"].get("accessModes") or ()
    return "ReadWriteMany" not in modes and ("ReadWriteOnce" in modes or "ReadWriteOncePod" in modes)


def with_volume_affinity(pod: Unstructured, snapshot: Snapshot) -> Unstructured:
    """The desired pod, bound to the node that has the volume where there is one. No part of the hash: it depends on
    the world, not on what the user wants.
    """
    nodes = {mount.node for mount in _mounts(snapshot)}
    if not nodes:
        return pod
    [node] = nodes
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    return pod | {"spec": pod["spec"] | {"affinity": affinity}}


def pod_blocked_reason(snapshot: Snapshot) -> str | None:
    """Why no pod can have the volume as long as others have it."""
    mounts, claim = _mounts(snapshot), snapshot.children.pvc
    if not mounts or claim is None:
        return None
    if "ReadWriteOncePod" in claim["spec"].get("accessModes", ()):
        return f"claim {claim['metadata']['name']!r} is ReadWriteOncePod and mounted by {_format_mounts(mounts)}"
    if len({mount.node for mount in mounts}) > 1:
        return f"claim {claim['metadata']['name']!r} is ReadWriteOnce and mounted on several nodes: {_format_mounts(mounts)}"
    return None


def is_stuck_on_node(snapshot: Snapshot) -> bool:
    """Whether the present pod was bound to the node of the volume, and the scheduler cannot place it there."""
    pod = snapshot.children.pod
    if pod is None or not is_ours(pod, snapshot.storage.meta.uid) or is_terminating(pod):
        return False
    return _pinned_node(pod) is not None and pod_status.unschedulable(pod) is not None


def rescheduling_reason(snapshot: Snapshot) -> str | None:
    """Why a pod that follows in vain is to be made again: the volume is not where it was."""
    pod, mounts = snapshot.children.pod, snapshot.claim_context.mounts
    if pod is None or mounts is None or not is_stuck_on_node(snapshot) or pod_blocked_reason(snapshot) is not None:
        return None
    nodes = {mount.node for mount in mounts}
    return None if nodes == {_pinned_node(pod)} else f"its volume is no longer on node {_pinned_node(pod)}"


def volume_problem(snapshot: Snapshot) -> Finding | None:
    """What the pods of others, or the cluster's attempts to mount the volume, do to our pod."""
    pod = snapshot.children.pod
    if pod is None:
        why = pod_blocked_reason(snapshot)
        return Finding("MultiAttach", why) if why is not None else None
    if is_stuck_on_node(snapshot) and (mounts := _mounts(snapshot)):
        words = pod_status.unschedulable(pod)
        return Finding(
            "MultiAttach", f"only the node that has the volume will do; it is mounted by {_format_mounts(mounts)}: {words}"
        )
    return snapshot.claim_context.mount_failure if mounting_since(snapshot) is not None else None


def mounting_since(snapshot: Snapshot) -> datetime | None:
    """Since when our pod has had its node and none of its containers has started; None where that is not so."""
    pod = snapshot.children.pod
    if pod is None or not is_ours(pod, snapshot.storage.meta.uid) or is_terminating(pod) or not pod_status.is_mounting(pod):
        return None
    scheduled = pod_status.condition(pod, "PodScheduled") or {}
    return parse_time(scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def events_due(snapshot: Snapshot) -> datetime | None:
    """When to ask what keeps the volume from being mounted; None where nothing suggests that anything does."""
    since, read_at = mounting_since(snapshot), snapshot.claim_context.events_read_at
    if since is None:
        return None
    return since + _MOUNT_TIME if read_at is None else read_at + RECHECK_INTERVAL


def recheck_at(snapshot: Snapshot, now: datetime) -> tuple[datetime, ...]:
    """When to look again at a pod that waits for its volume: nothing else would bring it back."""
    if is_stuck_on_node(snapshot):
        return (now + RECHECK_INTERVAL,)
    due = events_due(snapshot)
    return (due,) if due is not None else ()


def _mounts(snapshot: Snapshot) -> tuple[Mount, ...]:
    return snapshot.claim_context.mounts or ()


def _pinned_node(pod: Unstructured) -> str | None:
    """The node that `beside_the_volume` bound the pod to."""
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
