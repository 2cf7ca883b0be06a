"""The plan of one reconcile, as a pure function of the snapshot and the time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from userstorage_operator.api import names
from userstorage_operator.api.errors import AwaitingGarbageCollection, InvalidSpec, NameConflict, OperatorError
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import ReclaimPolicy
from userstorage_operator.observed.lost_claim import waits_for_consent
from userstorage_operator.observed.snapshot import (
    Snapshot,
    claim_is_ours,
    controller_uid,
    is_adoptable,
    is_former,
    is_labelled,
    is_ours,
    is_terminating,
    was_orphaned,
)
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.child import selector
from userstorage_operator.plan.deferred_changes import (
    current_claim_size,
    ids_of_files,
    keep_current_access,
    keep_current_selectors,
    record_ids,
)
from userstorage_operator.plan.diff import LABEL_PATCH, child_patch, claim_patch, claim_resize, without_owner
from userstorage_operator.plan.finalizers import foreign_finalizers, has_finalizer, is_held, selects
from userstorage_operator.plan.pod import (
    claim_is_disappearing,
    deferral,
    deletion_deadline,
    is_current,
    plan_pod,
    pod_deletion,
    pod_termination_deadline,
)
from userstorage_operator.plan.rendering import render
from userstorage_operator.plan.steps import (
    AddFinalizer,
    Create,
    Delete,
    InspectClaim,
    InspectMountEvents,
    InspectMounts,
    Patch,
    Plan,
    ReleasePolicy,
    RemoveFinalizer,
    Step,
)

_PATCHED_AFTER = timedelta(seconds=10)
"""When to look again at a pod that gets a label or its owner: no event reports our own write."""


def plan(snapshot: Snapshot, now: datetime) -> Plan:
    """Return the plan; without steps if the UserStorage is paused. If the spec is invalid, or an object that is not ours has a
    child's name, its `spec_error` says so.
    """
    if snapshot.storage.is_deleting:
        return with_labels(plan_deletion(snapshot), snapshot)
    desired, spec_error = _render(snapshot)
    if snapshot.storage.paused:
        return Plan(desired=desired)
    if desired is not None:
        try:
            return replace(with_labels(plan_changes(snapshot, desired, now), snapshot), desired=desired)
        except (NameConflict, AwaitingGarbageCollection) as conflict:
            spec_error = conflict
    return replace(with_labels(plan_blocked(snapshot, now), snapshot), desired=desired, spec_error=spec_error)


def with_labels(plan: Plan, snapshot: Snapshot) -> Plan:
    """Return the plan with a first patch for each child that lacks the label of our watches and keeps it in `plan`: without the
    label, no event would report that its pod has started, failed or ended.
    """
    labelled = {step.kind for step in plan.steps if isinstance(step, Delete) or (isinstance(step, Patch) and _labels(step))}
    patches = tuple(Patch(kind, LABEL_PATCH, best_effort=True) for kind in _unlabelled(snapshot) if kind not in labelled)
    return replace(plan, steps=(*patches, *plan.steps)) if patches else plan


def _labels(step: Patch) -> bool:
    return names.LABEL_MANAGED_BY in step.patch.get("metadata", {}).get("labels", {})


def _unlabelled(snapshot: Snapshot) -> Iterator[Kind]:
    """Yield the kinds of our children without the label. A child that has been orphaned is not ours while its UserStorage goes."""
    for kind in Kind:
        child: Unstructured | None = getattr(snapshot.children, kind.field)
        if child is None or is_labelled(child) or (kind is Kind.PVC and snapshot.storage.storage.claim_name is not None):
            continue
        deleting = snapshot.storage.is_deleting
        if _is_ours(kind, child, snapshot) if deleting else _is_ours_or_adoptable(kind, child, snapshot):
            yield kind


def _render(snapshot: Snapshot) -> tuple[Desired | None, OperatorError | None]:
    """Return the desired children and no error; or None and the error, if there is one."""
    storage, cls = snapshot.storage, snapshot.cls
    if snapshot.spec_error is not None or cls is None:
        return None, snapshot.spec_error
    cls = replace(cls, ids=ids_of_files(snapshot) or cls.ids)
    try:
        exposed = snapshot.exposure_conflict is None
        desired = render(storage, cls, exposed=exposed, granted=current_claim_size(snapshot))
    except InvalidSpec as error:
        return None, error
    desired, pod = record_ids(desired, snapshot), snapshot.children.pod
    if pod is not None and not is_current(pod, desired):
        paced = deferral(snapshot, desired) in ("WaitingForRollout", "RolloutPaused")
        desired = keep_current_access(desired, snapshot, paced=paced)
    return keep_current_selectors(desired, snapshot), None


def plan_changes(snapshot: Snapshot, desired: Desired, now: datetime) -> Plan:
    """Plan the steps for a UserStorage that is not being deleted, owns its user id and has a class.

    Raises NameConflict or AwaitingGarbageCollection, before any step, if the name of its Service, pod, NetworkPolicy or claim
    is taken by an object that is not ours.
    """
    for kind in (Kind.SERVICE, Kind.POD):
        refuse_foreign(kind, getattr(snapshot.children, kind.field), snapshot)
    for kind in (Kind.NETWORK_POLICY, Kind.PVC):
        if getattr(desired, kind.field) is not None:
            refuse_foreign(kind, getattr(snapshot.children, kind.field), snapshot)
    pod_plan = _plan_pod(snapshot, desired, now)
    steps = [
        *_finalizer(snapshot),
        *_prune(snapshot, desired),
        *_ensure_policy(snapshot, desired),
        # Not right before the pod: the controller of Endpoints would see both at once, fail to create them twice, and send an Event.
        *_ensure(Kind.SERVICE, desired.service, snapshot.children.service),
        *_ensure_claim(snapshot, desired),
        *pod_plan.steps,
        *_ensure_exposure(Kind.INGRESS, desired.ingress, snapshot),
        *_ensure_exposure(Kind.HTTP_ROUTE, desired.http_route, snapshot),
        *_resize_claim(snapshot, desired),
    ]
    pod = snapshot.children.pod
    adopted = pod is not None and snapshot.own_pod is None
    relabelled = pod is not None and not selects(selector(snapshot.storage), pod)
    patched = pod is not None and not is_terminating(pod) and (adopted or relabelled)
    requeue_at = (*pod_plan.requeue_at, *((now + _PATCHED_AFTER,) if patched else ()))
    return replace(pod_plan, steps=tuple(steps), requeue_at=requeue_at)


def _plan_pod(snapshot: Snapshot, desired: Desired, now: datetime) -> Plan:
    """Plan the steps for the pod. None is created as long as another controller keeps the former NetworkPolicy from going."""
    policy = snapshot.children.network_policy
    is_kept = desired.network_policy is not None and policy is not None and bool(foreign_finalizers(policy))
    if is_kept and snapshot.children.pod is None and not snapshot.storage.suspended:
        return Plan(hold="NetworkNotReady")
    return plan_pod(snapshot, desired, now)


def plan_deletion(snapshot: Snapshot) -> Plan:
    """Plan for a UserStorage that is being deleted: delete its pod, and remove our finalizers once the pod is gone.

    The garbage collector deletes the other children.
    With propagation policy Orphan the children stay: the garbage collector first removes their owner, and the pod is not ours then.
    """
    finalizers = snapshot.storage.meta.finalizers
    if names.FINALIZER not in finalizers:
        policy = snapshot.own(Kind.NETWORK_POLICY)
        if policy is not None and is_held(policy) and snapshot.children.pod is None:
            return Plan((ReleasePolicy(),))
        return Plan(tuple(_leave_policy(snapshot)))
    deadline = deletion_deadline(snapshot)
    requeue_at = (deadline,) if deadline else ()
    if names.ORPHAN_FINALIZER in finalizers:
        return Plan(requeue_at=requeue_at)
    pod, keep = snapshot.own_pod, tuple(_keep_claim(snapshot))
    if pod is None:
        return Plan((*keep, *_leave_policy(snapshot), RemoveFinalizer()))
    if is_terminating(pod):
        return Plan(keep, requeue_at=requeue_at)
    return Plan((*keep, pod_deletion(snapshot, pod, "its UserStorage is being deleted")), requeue_at=requeue_at)


def claim_to_collect(snapshot: Snapshot) -> Unstructured | None:
    """Return the claim that goes with its UserStorage at the end of a deletion; None if it stays, or another object controls it."""
    claim, storage = snapshot.children.pvc, snapshot.storage
    if claim is None or storage.storage.claim_name is not None or storage.storage.reclaim_policy is not ReclaimPolicy.DELETE:
        return None
    if controller_uid(claim) not in (None, storage.meta.uid) or was_orphaned(snapshot.children, storage):
        return None
    return claim if claim_is_ours(claim, storage) else None


def plan_blocked(snapshot: Snapshot, now: datetime) -> Plan:
    """Plan for a spec that cannot be carried out (`spec_error`): only delete the pod if the UserStorage is suspended, and release
    a NetworkPolicy that is being deleted once no pod needs it.

    The plan may also read which pods mount the claim, or the Events of the pod, for the status.
    """
    if (deadline := pod_termination_deadline(snapshot)) is not None:
        return Plan(requeue_at=(deadline,))
    pod, policy = snapshot.own_pod, snapshot.own(Kind.NETWORK_POLICY)
    if snapshot.storage.suspended and pod is not None:
        return Plan((pod_deletion(snapshot, pod, "the UserStorage is suspended"),))
    if policy is not None and is_held(policy) and snapshot.children.pod is None:
        return Plan((ReleasePolicy(),))
    if volume_affinity.is_stuck_on_node(snapshot):
        return Plan((InspectMounts(None),))
    if volume_affinity.events_are_due(snapshot, now):
        return Plan((InspectMountEvents(),))
    return Plan()


def _keep_claim(snapshot: Snapshot) -> Iterator[Step]:
    """Yield the step that removes our ownerReference from the claim if reclaimPolicy is Retain.

    The user may have changed reclaimPolicy right before the deletion, or during it: its last value counts.
    """
    claim, storage = snapshot.children.pvc, snapshot.storage
    if claim is None or storage.storage.claim_name is not None or storage.storage.reclaim_policy is ReclaimPolicy.DELETE:
        return
    if claim_is_ours(claim, storage) and (disowned := without_owner(claim, storage.meta.uid)):
        yield Patch(Kind.PVC, disowned)


def _leave_policy(snapshot: Snapshot) -> Iterator[Step]:
    """Yield the step that removes our ownerReference from a terminating NetworkPolicy which waits for a pod that is not ours: one that
    has lost its owner, or has another. As a dependent it would keep its UserStorage in a foreground deletion for as long.
    """
    policy, is_strange = snapshot.own(Kind.NETWORK_POLICY), snapshot.children.pod is not None and snapshot.own_pod is None
    if policy is not None and is_held(policy) and is_strange:
        yield Patch(Kind.NETWORK_POLICY, without_owner(policy, snapshot.storage.meta.uid))


def refuse_foreign(kind: Kind, child: Unstructured | None, snapshot: Snapshot) -> None:
    """Raise an error if `child` exists and is not ours: AwaitingGarbageCollection if another UserStorage controls it and it
    is no claim, else NameConflict.

    In the first case that other UserStorage is gone or being deleted: only the owner of the user id gets this far.
    """
    if child is None:
        return
    if not _is_ours_or_adoptable(kind, child, snapshot):
        name = child["metadata"]["name"]
        if kind is not Kind.PVC and is_former(child, snapshot.storage):
            kept = foreign_finalizers(child)
            note = f"; finalizers of other controllers keep it: {', '.join(kept)}" if kept else ""
            raise AwaitingGarbageCollection(
                f"{kind.resource.kind} {name!r} belongs to a deleted UserStorage and has not been garbage-collected yet{note}"
            )
        raise NameConflict(
            f"{kind.resource.kind} {name!r} exists and does not belong to this UserStorage; it is left alone, delete or rename it"
        )


def _is_ours(kind: Kind, child: Unstructured, snapshot: Snapshot) -> bool:
    return claim_is_ours(child, snapshot.storage) if kind is Kind.PVC else is_ours(child, snapshot.storage.meta.uid)


def _is_ours_or_adoptable(kind: Kind, child: Unstructured, snapshot: Snapshot) -> bool:
    return _is_ours(kind, child, snapshot) or (kind is not Kind.PVC and is_adoptable(child, snapshot.storage))


def _own_or_adoptable(kind: Kind, snapshot: Snapshot) -> Unstructured | None:
    child: Unstructured | None = getattr(snapshot.children, kind.field)
    return child if child is not None and _is_ours_or_adoptable(kind, child, snapshot) else None


def _finalizer(snapshot: Snapshot) -> Iterator[Step]:
    if names.FINALIZER not in snapshot.storage.meta.finalizers:
        yield AddFinalizer()


def _prune(snapshot: Snapshot, desired: Desired) -> Iterator[Step]:
    """Yield the deletion of our NetworkPolicy, Ingress or HTTPRoute if it is no longer desired: it must not stay in effect."""
    for kind in (Kind.NETWORK_POLICY, *EXPOSURE):
        live = _own_or_adoptable(kind, snapshot)
        if getattr(desired, kind.field) is not None or live is None:
            continue
        if not is_terminating(live) or has_finalizer(live):
            yield Delete(kind, live["metadata"]["uid"])


def _ensure(kind: Kind, desired: Unstructured | None, live: Unstructured | None) -> Iterator[Step]:
    if desired is None:
        return
    if live is None:
        yield Create(kind, desired)
    elif not is_terminating(live) and (patch := child_patch(desired, live)):
        yield Patch(kind, patch)


def _ensure_policy(snapshot: Snapshot, desired: Desired) -> Iterator[Step]:
    """Ensure the NetworkPolicy. One that is being deleted is in force until our finalizer is removed: it is kept as long as there
    is a pod, and replaced before the next pod.
    """
    policy, live = desired.network_policy, snapshot.children.network_policy
    if policy is None or live is None or not is_terminating(live):
        yield from _ensure(Kind.NETWORK_POLICY, policy, live)
    elif snapshot.children.pod is None:
        if is_held(live):
            yield ReleasePolicy()
        if not foreign_finalizers(live):
            yield Create(Kind.NETWORK_POLICY, policy)
    elif is_held(live) and (patch := child_patch(policy, live)):
        yield Patch(Kind.NETWORK_POLICY, patch)


def _ensure_exposure(kind: Kind, desired: Unstructured | None, snapshot: Snapshot) -> Iterator[Step]:
    """Yield the step that creates or repairs the Ingress or HTTPRoute.

    A foreign object with its name counts as absent. The creation then fails, which does not block access to the files.
    """
    yield from _ensure(kind, desired, _own_or_adoptable(kind, snapshot))


def _ensure_claim(snapshot: Snapshot, desired: Desired) -> Iterator[Step]:
    claim = snapshot.children.pvc
    if desired.pvc is None or snapshot.claim_context.claim_holder is not None:
        return
    if claim is None:
        yield InspectClaim(desired.pvc) if waits_for_consent(snapshot) else Create(Kind.PVC, desired.pvc)
    elif not claim_is_disappearing(snapshot):
        if patch := claim_patch(desired.pvc, claim):
            yield Patch(Kind.PVC, patch, best_effort=True)
        # An owner from before the end of a deletion, as early builds set it: a foreground deletion would delete the claim at once.
        if disowned := without_owner(claim, snapshot.storage.meta.uid):
            yield Patch(Kind.PVC, disowned, best_effort=True)


def _resize_claim(snapshot: Snapshot, desired: Desired) -> Iterator[Step]:
    claim = snapshot.children.pvc
    if desired.pvc is None or claim is None or claim_is_disappearing(snapshot):
        return
    if snapshot.claim_context.claim_holder is not None:
        return
    if patch := claim_resize(claim, snapshot.storage.storage.size):
        yield Patch(Kind.PVC, patch, best_effort=True)
