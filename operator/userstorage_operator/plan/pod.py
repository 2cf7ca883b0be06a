"""The steps of a plan for the pod: create, keep, replace or delete it. A user never has two pods: their names are equal."""

from dataclasses import replace
from datetime import datetime

from userstorage_operator.api import names
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UpdateStrategy
from userstorage_operator.observed import backoff, pod_status
from userstorage_operator.observed.claim_usage import files_use, share_of
from userstorage_operator.observed.lost_claim import waits_for_consent
from userstorage_operator.observed.snapshot import (
    Snapshot,
    controller_uid,
    has_lost_volume,
    is_owned_by_a_user_storage,
    is_terminating,
)
from userstorage_operator.plan import remount, volume_affinity
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.child import claim_use
from userstorage_operator.plan.diff import metadata_patch, spec_edited_by_hand
from userstorage_operator.plan.pod_builder import BUILT_FROM
from userstorage_operator.plan.steps import Create, DeletePod, InspectMountEvents, InspectMounts, Patch, Plan

CLAIM_TERMINATING = "ClaimTerminating"
"""The deferral of a pod that is the last to keep a claim which is being deleted."""
_NO_FILES = "the browser runs but cannot read its volume; a new pod mounts it again"
CLAIM_LOST = "ClaimLost"
"""The deferral of a pod on a claim whose volume no longer exists, so that no other pod could mount it."""
CLAIM_NOT_ALLOWED = "ClaimNotAllowed"
"""The deferral of a pod on a claim that no other pod may use, since its owner has removed the label."""
KEPT_AS_LAST = frozenset((CLAIM_TERMINATING, CLAIM_LOST, CLAIM_NOT_ALLOWED))
"""All reasons of `kept_as_last`."""


def plan_pod(snapshot: Snapshot, desired: Desired, now: datetime) -> Plan:
    """Plan the steps for the pod. If no pod may be created yet, `hold` of the plan has the reason."""
    pod = snapshot.children.pod
    if pod is None:
        return Plan() if snapshot.storage.suspended else _plan_creation(snapshot, desired, now)
    if (deadline := pod_termination_deadline(snapshot)) is not None:
        return Plan(requeue_at=(deadline,))
    if reason := stop_reason(snapshot, desired):
        return Plan((pod_deletion(snapshot, pod, reason),))
    if (replacement := _replacement(snapshot, desired, pod, now)) is not None and kept_as_last(snapshot) is None:
        return Plan((replacement,))
    if volume_affinity.is_stuck_on_node(snapshot) and snapshot.claim_context.mounts is None:
        return Plan((InspectMounts(desired),))
    patch = _pod_patch(snapshot, desired, pod)
    steps = (Patch(Kind.POD, patch),) if patch else ()
    if volume_affinity.events_are_due(snapshot, now):
        return Plan((*steps, InspectMountEvents()), requeue_at=(now + volume_affinity.RECHECK_INTERVAL,))
    due = remount.due_at(snapshot)
    return Plan(steps, requeue_at=(*volume_affinity.recheck_at(snapshot, now), *((due,) if due is not None else ())))


def _plan_creation(snapshot: Snapshot, desired: Desired, now: datetime) -> Plan:
    if _claim_blocks_pod(snapshot, desired):
        # The deletion of another UserStorage and consent to a lost claim are events. Changes of claims and pods of other controllers
        # are not, and the lost claim that the spec names may come back on its volume.
        is_own = snapshot.storage.storage.claim_name is None
        has_event = snapshot.claim_context.claim_holder is not None or (is_own and waits_for_consent(snapshot))
        return Plan(hold="StorageNotReady", requeue_at=() if has_event else (volume_affinity.claim_recheck_at(snapshot, now),))
    if (not_before := backoff.blocked_until(snapshot.pod_backoff, now)) is not None:
        return Plan(hold="PodBackoff", requeue_at=(not_before,))
    if volume_affinity.is_exclusive(snapshot.children.pvc) and snapshot.claim_context.mounts is None:
        return Plan((InspectMounts(desired),))
    pod = volume_affinity.with_volume_affinity(desired.pod, snapshot)
    return Plan((Create(Kind.POD, pod),), requeue_at=(now + snapshot.storage.lifecycle.start_timeout,))


def deletion_deadline(snapshot: Snapshot) -> datetime | None:
    """Return when the deletion of the UserStorage times out; None if it is not being deleted or lacks our finalizer."""
    meta = snapshot.storage.meta
    if meta.deleted_at is None or names.FINALIZER not in meta.finalizers:
        return None
    return meta.deleted_at + snapshot.storage.lifecycle.deletion_timeout


def pod_termination_deadline(snapshot: Snapshot) -> datetime | None:
    """Return when the termination of our pod counts as timed out; None if no pod of ours is terminating.

    The deletionTimestamp includes the pod's grace period.
    """
    pod = snapshot.own_pod
    if pod is None or not is_terminating(pod):
        return None
    return parse_time(pod["metadata"]["deletionTimestamp"]) + snapshot.storage.lifecycle.deletion_timeout


def claim_is_disappearing(snapshot: Snapshot) -> bool:
    """Whether the claim is being deleted, or will be because the UserStorage that controlled it is gone. A controller of another
    kind keeps it, and a claim that the spec names may have any owner.
    """
    claim = snapshot.children.pvc
    if claim is None:
        return False
    if snapshot.storage.storage.claim_name is not None:
        return is_terminating(claim)
    former = is_owned_by_a_user_storage(claim) and controller_uid(claim) != snapshot.storage.meta.uid
    return is_terminating(claim) or former


def claim_is_lost(snapshot: Snapshot) -> bool:
    """Whether our claim has lost its volume."""
    claim = snapshot.children.pvc
    return claim is not None and has_lost_volume(claim)


def claim_is_withdrawn(snapshot: Snapshot) -> bool:
    """Whether the claim that the spec names exists, and its owner does not let a UserStorage use it."""
    claim = snapshot.children.pvc
    return snapshot.storage.storage.claim_name is not None and claim is not None and share_of(claim) is None


def _claim_blocks_pod(snapshot: Snapshot, desired: Desired) -> bool:
    if claim_is_disappearing(snapshot) or snapshot.claim_context.claim_holder is not None or waits_for_consent(snapshot):
        return True
    if volume_affinity.pod_blocked_reason(snapshot) is not None:
        return True
    if desired.pvc is not None:
        return False
    return snapshot.children.pvc is None or claim_is_withdrawn(snapshot)


def _pod_patch(snapshot: Snapshot, desired: Desired, pod: Unstructured) -> Unstructured:
    """Return the patch of the pod's metadata. If the replacement of the pod is deferred, the annotations stay that record what the
    pod was built from; if that was another class, what class and UserStorage add stays too.
    """
    is_deferred = deferral(snapshot, desired) is not None
    if is_deferred and _is_of_another_class(pod, desired):
        return metadata_patch(_with_own_metadata(pod, desired), pod)
    patch = metadata_patch(_with_restart_of(pod, desired.pod), pod)
    if not is_deferred or not patch:
        return patch
    metadata = patch["metadata"]
    annotations = {key: value for key, value in metadata.get("annotations", {}).items() if key not in BUILT_FROM}
    kept = {field: value for field, value in metadata.items() if field != "annotations"}
    kept |= {"annotations": annotations} if annotations else {}
    return {"metadata": kept} if kept else {}


def _is_of_another_class(pod: Unstructured, desired: Desired) -> bool:
    return _annotation(pod, names.ANNOTATION_CLASS) != _annotation(desired.pod, names.ANNOTATION_CLASS)


def _with_own_metadata(pod: Unstructured, desired: Desired) -> Unstructured:
    """Return the desired pod with the labels and annotations of `pod`, apart from those that every child has.

    The policies in deploy/admission compare an update of the pod with the class that the pod names, or with none: they would
    refuse those of another class in every reconcile.
    """
    meta, own = pod["metadata"], desired.service["metadata"]
    labels = {**(meta.get("labels") or {}), **own["labels"]}
    user_id = {names.ANNOTATION_USER_ID: own["annotations"][names.ANNOTATION_USER_ID]}
    kept = {"labels": labels, "annotations": {**(meta.get("annotations") or {}), **user_id}}
    return desired.pod | {"metadata": desired.pod["metadata"] | kept}


def _with_restart_of(pod: Unstructured, desired: Unstructured) -> Unstructured:
    """Return the desired pod with the restart that `pod` was created for: with a later one, a restart that has to wait would be
    forgotten.
    """
    others = {key: value for key, value in desired["metadata"]["annotations"].items() if key != names.ANNOTATION_RESTARTED_AT}
    created_for = _annotation(pod, names.ANNOTATION_RESTARTED_AT)
    kept = {names.ANNOTATION_RESTARTED_AT: created_for} if created_for is not None else {}
    return desired | {"metadata": desired["metadata"] | {"annotations": others | kept}}


def stop_reason(snapshot: Snapshot, desired: Desired) -> str | None:
    """Return why our pod is ended without room for another one; None if it is not. The holder of the claim ends neither the last
    pod on a claim nor an outdated one that mounts its former directory, which no other UserStorage has.
    """
    if snapshot.storage.suspended:
        return "the UserStorage is suspended"
    if snapshot.claim_context.claim_holder is None or kept_as_last(snapshot) or _is_elsewhere(snapshot, desired):
        return None
    return _in_use(snapshot)


def _is_elsewhere(snapshot: Snapshot, desired: Desired) -> bool:
    """Whether the replacement of our pod is deferred, and it mounts another claim or directory than the spec asks for now."""
    pod = snapshot.own_pod
    if pod is None or deferral(snapshot, desired) is None:
        return False
    mounted, wanted = files_use(pod), claim_use(snapshot.storage)
    return mounted is not None and (mounted.claim, mounted.directory) != (wanted.claim, wanted.directory)


def _in_use(snapshot: Snapshot) -> str:
    return f"its claim, or its directory, is in use by UserStorage {snapshot.claim_context.claim_holder!r}"


def _replacement(snapshot: Snapshot, desired: Desired, pod: Unstructured, now: datetime) -> DeletePod | None:
    """Return the deletion that makes room for another pod; None if the pod may stay.

    It is the operator's own wish, not the user's. So it must not happen while the pod is what keeps the files: pvc-protection holds
    a claim that is being deleted for as long as a pod uses it, also a pod that has terminated.
    """
    outdated = pod_hash(pod) is not None and not is_current(pod, desired)
    if _restart_is_requested(snapshot, pod):
        # With a pause if it is one of many in quick succession, as for a lost pod.
        step = replace(pod_deletion(snapshot, pod, "a restart was requested"), requested=False)
    elif outdated and deferral(snapshot, desired) in (None, *KEPT_AS_LAST):
        by_user = _changed_by_user(desired, pod)
        step = pod_deletion(snapshot, pod, "the spec asks for another pod" if by_user else "the class asks for another pod")
        step = replace(step, by_rollout=not by_user)
    elif reason := volume_affinity.rescheduling_reason(snapshot):
        step = pod_deletion(snapshot, pod, reason)
    elif reason := pod_loss_reason(pod):
        step = replace(pod_deletion(snapshot, pod, reason), requested=False)
    elif (due := remount.due_at(snapshot)) is not None and due <= now:
        # A pod that has become ready in the meantime is a newer version.
        step = pod_deletion(snapshot, pod, _NO_FILES)
        step = replace(step, requested=False, remounts=True)
    else:
        return None
    # A claim that the spec names was read in this reconcile.
    return replace(step, only_if_claim_stays=desired.pvc is not None and snapshot.children.pvc is not None)


def _restart_is_requested(snapshot: Snapshot, pod: Unstructured) -> bool:
    """Whether the UserStorage has another annotation userstorage.dev/restartedAt than the one for which the pod was created.

    It overrides the updateStrategy and the rollout of the class: a restart is the user's own act, not a change that waits.
    """
    requested = snapshot.storage.meta.restarted_at
    return requested is not None and requested != _annotation(pod, names.ANNOTATION_RESTARTED_AT)


def kept_as_last(snapshot: Snapshot) -> str | None:
    """Return why no other pod could follow ours, as a reason of PodUpToDate: the claim may end with it, being deleted or removed in
    spite of its protection; the volume is gone; or the owner of the claim lets no new pod use it. None if another pod could follow.
    """
    if claim_is_disappearing(snapshot) or waits_for_consent(snapshot):
        return CLAIM_TERMINATING
    if claim_is_lost(snapshot):
        return CLAIM_LOST
    return CLAIM_NOT_ALLOWED if claim_is_withdrawn(snapshot) else None


def kept_despite(snapshot: Snapshot, desired: Desired, now: datetime) -> str | None:
    """Return why the pod would be replaced if it were not the last on its claim; None if it would not, or is not the last."""
    pod = snapshot.own_pod
    if pod is None or is_terminating(pod) or kept_as_last(snapshot) is None or stop_reason(snapshot, desired) is not None:
        return None
    if (replacement := _replacement(snapshot, desired, pod, now)) is not None:
        return replacement.reason
    return _in_use(snapshot) if snapshot.claim_context.claim_holder is not None else None


def pod_loss_reason(pod: Unstructured) -> str | None:
    """Return why our pod is lost: it was disrupted, has terminated, was edited, or lacks its hash. None if it is not lost.

    The next pod may have to wait, as the loss may repeat itself.
    """
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
    """Return why an outdated pod keeps running, as a reason of PodUpToDate; None if the pod is current or may be replaced."""
    pod = snapshot.children.pod
    if pod is None or is_current(pod, desired):
        return None
    if snapshot.storage.lifecycle.update_strategy is UpdateStrategy.WHEN_SUSPENDED:
        return "UpdateDeferred"
    if (reason := kept_as_last(snapshot)) is not None:
        return reason
    if _changed_by_user(desired, pod):
        return None
    if snapshot.cls is not None and snapshot.cls.rollout_paused:
        return "RolloutPaused"
    return None if snapshot.may_replace else "WaitingForRollout"


def _changed_by_user(desired: Desired, pod: Unstructured) -> bool:
    built_from = _annotation(pod, names.ANNOTATION_SPEC_HASH)
    return built_from is not None and built_from != desired.spec_hash and built_from not in desired.former_hashes


def is_current(pod: Unstructured, desired: Desired) -> bool:
    """Whether the pod was built from what is desired now."""
    built_from = pod_hash(pod)
    return built_from == desired.pod_hash or built_from in desired.former_hashes


def pod_hash(pod: Unstructured) -> str | None:
    """Return the annotation with the hash of the spec that the pod was built from; None if it is missing."""
    return _annotation(pod, names.ANNOTATION_POD_HASH)


def _annotation(pod: Unstructured, name: str) -> str | None:
    value = (pod["metadata"].get("annotations") or {}).get(name)
    return str(value) if value is not None else None


def pod_deletion(snapshot: Snapshot, pod: Unstructured, reason: str) -> DeletePod:
    """Return the step that deletes the pod with the grace period of the spec.

    As `requested` is True, the next pod needs no pause.
    """
    grace_period = snapshot.storage.lifecycle.termination_grace_period
    return DeletePod(pod["metadata"]["uid"], grace_period, reason, requested=True)
