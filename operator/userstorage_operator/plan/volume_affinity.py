"""A volume that only one node can have: a new pod follows the pods that mount it already, or waits for them."""

from datetime import datetime, timedelta

from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Object
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.claim_usage import Mount
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import World, is_ours, is_terminating

LOOK_INTERVAL = timedelta(seconds=15)
"""How often to look at what no watch shows: claims, pods and events of others."""
_MOUNT_TIME = timedelta(seconds=10)
"""How long a volume may take to be mounted before anybody asks why."""


def is_exclusive(claim: Object | None) -> bool:
    """Whether the claim has a volume that only one node, or only one pod, can have at a time."""
    if claim is None or claim.get("status", {}).get("phase") != "Bound":
        return False
    modes = claim["spec"].get("accessModes") or ()
    return "ReadWriteMany" not in modes and ("ReadWriteOnce" in modes or "ReadWriteOncePod" in modes)


def beside_the_volume(pod: Object, world: World) -> Object:
    """The desired pod, bound to the node that has the volume where there is one. No part of the hash: it depends on
    the world, not on what the user wants.
    """
    nodes = {mount.node for mount in _mounts(world)}
    if not nodes:
        return pod
    [node] = nodes
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}
    return pod | {"spec": pod["spec"] | {"affinity": affinity}}


def why_no_pod(world: World) -> str | None:
    """Why no pod can have the volume as long as others have it."""
    mounts, claim = _mounts(world), world.children.claim
    if not mounts or claim is None:
        return None
    if "ReadWriteOncePod" in claim["spec"].get("accessModes", ()):
        return f"claim {claim['metadata']['name']!r} is ReadWriteOncePod and mounted by {_told(mounts)}"
    if len({mount.node for mount in mounts}) > 1:
        return f"claim {claim['metadata']['name']!r} is ReadWriteOnce and mounted on several nodes: {_told(mounts)}"
    return None


def follows_in_vain(world: World) -> bool:
    """Whether the present pod was bound to the node of the volume, and the scheduler cannot place it there."""
    pod = world.children.pod
    if pod is None or not is_ours(pod, world.storage.meta.uid) or is_terminating(pod):
        return False
    return _followed(pod) is not None and pod_status.unschedulable(pod) is not None


def why_follow_anew(world: World) -> str | None:
    """Why a pod that follows in vain is to be made again: the volume is not where it was."""
    pod, mounts = world.children.pod, world.surroundings.mounts
    if pod is None or mounts is None or not follows_in_vain(world) or why_no_pod(world) is not None:
        return None
    nodes = {mount.node for mount in mounts}
    return None if nodes == {_followed(pod)} else f"its volume is no longer on node {_followed(pod)}"


def trouble(world: World) -> Finding | None:
    """What the pods of others, or the cluster's attempts to mount the volume, do to our pod."""
    pod = world.children.pod
    if pod is None:
        why = why_no_pod(world)
        return Finding("MultiAttach", why) if why is not None else None
    if follows_in_vain(world) and (mounts := _mounts(world)):
        words = pod_status.unschedulable(pod)
        return Finding("MultiAttach", f"only the node that has the volume will do; it is mounted by {_told(mounts)}: {words}")
    return world.surroundings.mount_failure if mounting_since(world) is not None else None


def mounting_since(world: World) -> datetime | None:
    """Since when our pod has had its node and none of its containers has started; None where that is not so."""
    pod = world.children.pod
    if pod is None or not is_ours(pod, world.storage.meta.uid) or is_terminating(pod) or not pod_status.is_mounting(pod):
        return None
    scheduled = pod_status.condition(pod, "PodScheduled") or {}
    return parse_time(scheduled.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def events_due(world: World) -> datetime | None:
    """When to ask what keeps the volume from being mounted; None where nothing suggests that anything does."""
    since, read_at = mounting_since(world), world.surroundings.events_read_at
    if since is None:
        return None
    return since + _MOUNT_TIME if read_at is None else read_at + LOOK_INTERVAL


def look_again_at(world: World, now: datetime) -> tuple[datetime, ...]:
    """When to look again at a pod that waits for its volume: nothing else would bring it back."""
    if follows_in_vain(world):
        return (now + LOOK_INTERVAL,)
    due = events_due(world)
    return (due,) if due is not None else ()


def _mounts(world: World) -> tuple[Mount, ...]:
    return world.surroundings.mounts or ()


def _followed(pod: Object) -> str | None:
    """The node that `beside_the_volume` bound the pod to."""
    required = (
        (pod["spec"].get("affinity") or {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
    )
    for term in required.get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            if field["key"] == "metadata.name" and field["operator"] == "In":
                return str(field["values"][0])
    return None


def _told(mounts: tuple[Mount, ...]) -> str:
    return ", ".join(f"pod {mount.pod!r} on node {mount.node!r}" for mount in mounts)
