"""The pod's part of a plan: when one is created, kept, replaced or deleted. Never two: they have the same name."""

from dataclasses import replace
from datetime import datetime

from userstorage_operator.api import names
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UpdateStrategy
from userstorage_operator.observed import backoff, pod_status
from userstorage_operator.observed.snapshot import Snapshot, controller_uid, is_terminating
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.diff import metadata_patch, spec_edited_by_hand
from userstorage_operator.plan.steps import Create, DeletePod, InspectMountEvents, InspectMounts, Patch, Plan


def plan_pod(snapshot: Snapshot, desired: Desired, now: datetime) -> Plan:
    """Plan the steps for the pod, the reason that holds one back, and when to plan again."""
    pod = snapshot.children.pod
    if pod is None:
        return Plan() if snapshot.storage.suspended else _plan_creation(snapshot, desired, now)
    if (deadline := pod_termination_deadline(snapshot)) is not None:
        return Plan(requeue_at=(deadline,))
    if reason := _replacement_reason(snapshot, desired, pod):
        return Plan((pod_deletion(snapshot, pod, reason),))
    if reason := volume_affinity.rescheduling_reason(snapshot):
        return Plan((pod_deletion(snapshot, pod, reason),))
    if reason := pod_loss_reason(pod):
        return Plan((replace(pod_deletion(snapshot, pod, reason), requested=False),))
    if volume_affinity.is_stuck_on_node(snapshot) and snapshot.claim_context.mounts is None:
        return Plan((InspectMounts(desired),))
    patch = _pod_patch(snapshot, desired, pod)
    steps = (Patch(Kind.POD, patch),) if patch else ()
    if volume_affinity.events_are_due(snapshot, now):
        return Plan((*steps, InspectMountEvents()), requeue_at=(now + volume_affinity.RECHECK_INTERVAL,))
    return Plan(steps, requeue_at=volume_affinity.recheck_at(snapshot, now))


def _plan_creation(snapshot: Snapshot, desired: Desired, now: datetime) -> Plan:
    if _claim_blocks_pod(snapshot, desired):
        # The end of another UserStorage is an event. No event reports changes of claims and pods of other controllers.
        in_use = snapshot.claim_context.claim_holder is not None
        return Plan(hold="StorageNotReady", requeue_at=() if in_use else (now + volume_affinity.RECHECK_INTERVAL,))
    if (not_before := backoff.blocked_until(snapshot.pod_backoff, now)) is not None:
        return Plan(hold="PodBackoff", requeue_at=(not_before,))
    if volume_affinity.is_exclusive(snapshot.children.pvc) and snapshot.claim_context.mounts is None:
        return Plan((InspectMounts(desired),))
    pod = volume_affinity.with_volume_affinity(desired.pod, snapshot)
    return Plan((Create(Kind.POD, pod),), requeue_at=(now + snapshot.storage.lifecycle.start_timeout,))


def deletion_deadline(snapshot: Snapshot) -> datetime | None:
    """Return when the deletion counts as timed out; None if the object is not being deleted, or not held by our finalizer."""
    meta = snapshot.storage.meta
    if meta.deleted_at is None or names.FINALIZER not in meta.finalizers:
        return None
    return meta.deleted_at + snapshot.storage.lifecycle.deletion_timeout


def pod_termination_deadline(snapshot: Snapshot) -> datetime | None:
    """Return when the termination of our pod counts as timed out; None if none is terminating.

    The deletionTimestamp includes the pod's grace period.
    """
    pod = snapshot.own_pod
    if pod is None or not is_terminating(pod):
        return None
    return parse_time(pod["metadata"]["deletionTimestamp"]) + snapshot.storage.lifecycle.deletion_timeout


def claim_is_disappearing(snapshot: Snapshot) -> bool:
    """Whether the claim is being deleted, or will be because the UserStorage that owned it is gone. A claim that the spec
    names may have any owner.
    """
    claim = snapshot.children.pvc
    if claim is None:
        return False
    if snapshot.storage.storage.claim_name is not None:
        return is_terminating(claim)
    return is_terminating(claim) or controller_uid(claim) not in (None, snapshot.storage.meta.uid)


def claim_is_shareable(claim: Unstructured) -> bool:
    """Whether the label of an existing claim allows UserStorages to use it."""
    return (claim["metadata"].get("labels") or {}).get(names.LABEL_SHAREABLE) == "true"


def _claim_blocks_pod(snapshot: Snapshot, desired: Desired) -> bool:
    if claim_is_disappearing(snapshot) or snapshot.claim_context.claim_holder is not None:
        return True
    if volume_affinity.pod_blocked_reason(snapshot) is not None:
        return True
    if desired.pvc is not None:
        return False
    claim = snapshot.children.pvc
    return claim is None or not claim_is_shareable(claim)


def _pod_patch(snapshot: Snapshot, desired: Desired, pod: Unstructured) -> Unstructured:
    """Return the patch of the pod's metadata.

    If replacing the pod is deferred, repair only its owner and the labels that the Service and NetworkPolicy select; leave the
    hash annotations, which record the spec it was built from.
    """
    patch = metadata_patch(desired.pod, pod)
    if deferral(snapshot, desired) is None:
        return patch
    selected = desired.service["metadata"]["labels"]
    metadata = patch.get("metadata", {})
    labels = {key: value for key, value in metadata.get("labels", {}).items() if key in selected}
    kept = ({"labels": labels} if labels else {}) | {key: metadata[key] for key in ("ownerReferences",) if key in metadata}
    return {"metadata": kept} if kept else {}


def _replacement_reason(snapshot: Snapshot, desired: Desired, pod: Unstructured) -> str | None:
    if snapshot.storage.suspended:
        return "the UserStorage is suspended"
    if snapshot.claim_context.claim_holder is not None:
        return f"its claim is in use by UserStorage {snapshot.claim_context.claim_holder!r}"
    built_from = pod_hash(pod)
    if built_from is not None and built_from != desired.pod_hash and deferral(snapshot, desired) is None:
        return "the spec or the class asks for another pod"
    return None


def pod_loss_reason(pod: Unstructured) -> str | None:
    """Return why a pod of ours no longer serves, or which disruption terminates it; None if neither is the case."""
    if is_terminating(pod):
        disruption = pod_status.disruption(pod)
        return f"another controller terminated it ({disruption})" if disruption is not None else None
    if pod_hash(pod) is None:
        return "its hash annotation is missing"
    status = pod.get("status", {})
    if status.get("phase") in ("Failed", "Succeeded"):
        cause = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
        return f"it has terminated ({status['phase']}: {cause or 'no reason given'})"
    if spec_edited_by_hand(pod):
        return "its spec was edited by hand"
    return None


def deferral(snapshot: Snapshot, desired: Desired) -> str | None:
    """Return the reason (of PodUpToDate) for which a pod of an older spec is left running; None if it is not."""
    pod = snapshot.children.pod
    if pod is None or pod_hash(pod) == desired.pod_hash:
        return None
    if snapshot.storage.lifecycle.update_strategy is UpdateStrategy.WHEN_SUSPENDED:
        return "UpdateDeferred"
    built_from = _annotation(pod, names.ANNOTATION_SPEC_HASH)
    changed_by_user = built_from is not None and built_from != desired.spec_hash
    return None if changed_by_user or snapshot.may_replace else "WaitingForRollout"


def pod_hash(pod: Unstructured) -> str | None:
    """Return the hash of the spec that the pod was built from; None if the annotation is missing."""
    return _annotation(pod, names.ANNOTATION_POD_HASH)


def _annotation(pod: Unstructured, name: str) -> str | None:
    value = (pod["metadata"].get("annotations") or {}).get(name)
    return str(value) if value is not None else None


def pod_deletion(snapshot: Snapshot, pod: Unstructured, reason: str) -> DeletePod:
    """Return the step that deletes the pod on request, with the grace period of the spec."""
    grace_period = snapshot.storage.lifecycle.termination_grace_period
    return DeletePod(pod["metadata"]["uid"], grace_period, reason, requested=True)
