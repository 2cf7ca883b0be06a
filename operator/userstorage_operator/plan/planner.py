"""What to do about a world: pure, so that any world can be asked about in a test."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from userstorage_operator.api import names
from userstorage_operator.api.errors import AwaitingGarbageCollection, NameConflict
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import ReclaimPolicy, UpdateStrategy
from userstorage_operator.observed import backoff, pod_status
from userstorage_operator.observed.snapshot import (
    Snapshot,
    claim_is_ours,
    controller_uid,
    is_ours,
    is_owned_by_a_user_storage,
    is_terminating,
)
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.diff import child_patch, claim_growth, claim_patch, metadata_patch, spec_edited_by_hand


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """So that a deletion waits for the pod."""


@dataclass(frozen=True, slots=True)
class RemoveFinalizer:
    """The pod is gone as far as we saw; the actor makes sure of it before it lets the object go."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make a child."""

    kind: Kind
    body: Unstructured


@dataclass(frozen=True, slots=True)
class Patch:
    """Put a child right."""

    kind: Kind
    patch: Unstructured
    best_effort: bool = False
    """Of claims, which their storage class may not let grow, and whose owner an API server with
    OwnerReferencesPermissionEnforcement refuses, since the operator may not delete them. Two patches, or the one refusal
    would keep the other from being done.
    """


@dataclass(frozen=True, slots=True)
class Delete:
    """End a child that the class no longer asks for; `uid` keeps a newer one of the same name safe."""

    kind: Kind
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """End the pod gracefully; `uid` keeps a newer pod of the same name safe."""

    uid: str
    grace_period: int
    """Seconds."""
    reason: str
    requested: bool
    """By the user or an administrator; else the pod was lost, and the next one may have to wait."""


Change = AddFinalizer | Create | Patch | Delete | DeletePod
Step = Change | RemoveFinalizer


def is_optional(step: Step) -> bool:
    """Whether the other steps do not need this one: a claim that cannot grow or be owned, or a way in from outside that cannot
    be made, is told and tried again, and everything else is done.
    """
    return isinstance(step, Create | Patch | Delete) and (
        step.kind in EXPOSURE or (isinstance(step, Patch) and step.best_effort)
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order; each may fail, then the rest waits for the next pass unless `is_optional`."""

    steps: tuple[Step, ...] = ()
    hold: str | None = None
    """Reason (of Ready) that keeps a pod from being made."""
    requeue_at: tuple[datetime, ...] = field(default=())
    """Moments at which the answer changes although nothing happens."""

    @property
    def creates_pod(self) -> bool:
        """Whether there will be a new pod."""
        return any(isinstance(step, Create) and step.kind is Kind.POD for step in self.steps)

    @property
    def deletes_pod(self) -> bool:
        """Whether the pod is to go."""
        return any(isinstance(step, DeletePod) for step in self.steps)


def plan_changes(snapshot: Snapshot, desired: Desired, now: datetime) -> Plan:
    """The plan for a live UserStorage that is its user's only one and whose class exists.

    Raises NameConflict before any step where a foreign object has the name of a child that the files are reached by.
    """
    for kind in (Kind.SERVICE, Kind.POD):
        refuse_foreign(kind, getattr(snapshot.children, kind.field), snapshot)
    for kind in (Kind.NETWORK_POLICY, Kind.PVC):
        if getattr(desired, kind.field) is not None:
            refuse_foreign(kind, getattr(snapshot.children, kind.field), snapshot)
    pod_steps, hold, requeue_at = _pod(snapshot, desired, now)
    steps = [
        *_finalizer(snapshot),
        *_prune(snapshot, desired),
        *_ensure(Kind.NETWORK_POLICY, desired.network_policy, snapshot.children.network_policy),
        *_claim(snapshot, desired),
        *_ensure(Kind.SERVICE, desired.service, snapshot.children.service),
        *pod_steps,
        *_ensure_exposure(Kind.INGRESS, desired.ingress, snapshot),
        *_ensure_exposure(Kind.HTTP_ROUTE, desired.http_route, snapshot),
        *_expand_claim(snapshot, desired),
    ]
    return Plan(tuple(steps), hold, requeue_at)


def plan_deletion(snapshot: Snapshot) -> Plan:
    """Pod first, then the object: the finalizer goes when the pod has gone. The garbage collector takes the rest."""
    if names.FINALIZER not in snapshot.storage.meta.finalizers:
        return Plan()
    pod, keep = snapshot.children.pod, tuple(_keep_claim(snapshot))
    if pod is None or not is_ours(pod, snapshot.storage.meta.uid):
        return Plan((*keep, RemoveFinalizer()))
    deadline = deletion_deadline(snapshot)
    requeue_at = (deadline,) if deadline else ()
    if is_terminating(pod):
        return Plan(keep, requeue_at=requeue_at)
    return Plan((*keep, _delete(snapshot, pod, "its UserStorage is being deleted", asked_for=True)), requeue_at=requeue_at)


def plan_blocked(snapshot: Snapshot) -> Plan:
    """The plan where the spec cannot be acted on: touch nothing, but stop a pod that the user wants stopped."""
    pod = snapshot.children.pod
    if (deadline := pod_termination_deadline(snapshot)) is not None:
        return Plan(requeue_at=(deadline,))
    if snapshot.storage.suspended and pod is not None and is_ours(pod, snapshot.storage.meta.uid):
        return Plan((_delete(snapshot, pod, "the UserStorage is suspended", asked_for=True),))
    return Plan()


def _keep_claim(snapshot: Snapshot) -> Iterator[Step]:
    """Take the claim out of the garbage collector's hands where the user has come to think better of Delete: the spec
    may have changed in the same moment as the object was deleted, and counts until the end.
    """
    claim, storage = snapshot.children.pvc, snapshot.storage
    if claim is None or storage.storage.claim_name is not None or storage.storage.reclaim_policy is ReclaimPolicy.DELETE:
        return
    if claim_is_ours(claim, storage) and controller_uid(claim) == storage.meta.uid:
        yield Patch(Kind.PVC, {"metadata": {"ownerReferences": None}})


def deletion_deadline(snapshot: Snapshot) -> datetime | None:
    """When a deletion counts as stuck; None for an object that is not being deleted, or no longer held by us."""
    meta = snapshot.storage.meta
    if meta.deleted_at is None or names.FINALIZER not in meta.finalizers:
        return None
    return meta.deleted_at + snapshot.storage.lifecycle.deletion_timeout


def pod_termination_deadline(snapshot: Snapshot) -> datetime | None:
    """When a pod of ours counts as stuck; None where none is ending. Its grace period is its own."""
    pod = snapshot.children.pod
    if pod is None or not is_ours(pod, snapshot.storage.meta.uid) or not is_terminating(pod):
        return None
    return parse_time(pod["metadata"]["deletionTimestamp"]) + snapshot.storage.lifecycle.deletion_timeout


def refuse_foreign(kind: Kind, child: Unstructured | None, snapshot: Snapshot) -> None:
    """Raise NameConflict where `child` exists and is not ours, AwaitingGarbageCollection where it was another UserStorage's.

    Only one UserStorage of a user gets as far as this, so that other one is gone, or going.
    """
    if child is None:
        return
    ours = claim_is_ours(child, snapshot.storage) if kind is Kind.PVC else is_ours(child, snapshot.storage.meta.uid)
    if not ours:
        name = child["metadata"]["name"]
        if kind is not Kind.PVC and is_owned_by_a_user_storage(child):
            raise AwaitingGarbageCollection(
                f"{kind.resource.kind} {name!r} of a UserStorage that is gone has not been collected yet"
            )
        raise NameConflict(f"a {kind.resource.kind} {name!r} that is not ours is in the way; it is left alone")


def _finalizer(snapshot: Snapshot) -> Iterator[Step]:
    if names.FINALIZER not in snapshot.storage.meta.finalizers:
        yield AddFinalizer()


def _prune(snapshot: Snapshot, desired: Desired) -> Iterator[Step]:
    """Children of ours that the class does not ask for any more: a policy must not go on denying, a way in must close."""
    for kind in (Kind.NETWORK_POLICY, *EXPOSURE):
        live = getattr(snapshot.children, kind.field)
        if getattr(desired, kind.field) is not None or live is None or is_terminating(live):
            continue
        if is_ours(live, snapshot.storage.meta.uid):
            yield Delete(kind, live["metadata"]["uid"])


def _ensure(kind: Kind, desired: Unstructured | None, live: Unstructured | None) -> Iterator[Step]:
    if desired is None:
        return
    if live is None:
        yield Create(kind, desired)
    elif not is_terminating(live) and (patch := child_patch(desired, live)):
        yield Patch(kind, patch)


def _ensure_exposure(kind: Kind, desired: Unstructured | None, snapshot: Snapshot) -> Iterator[Step]:
    """A way in from outside. One in the place of ours counts as none: that ours cannot be made keeps nobody from the files."""
    live = getattr(snapshot.children, kind.field)
    ours = live is not None and is_ours(live, snapshot.storage.meta.uid)
    yield from _ensure(kind, desired, live if ours else None)


def _claim(snapshot: Snapshot, desired: Desired) -> Iterator[Step]:
    claim = snapshot.children.pvc
    if desired.pvc is None or snapshot.claim_context.claim_holder is not None:
        return
    if claim is None:
        yield Create(Kind.PVC, desired.pvc)
    elif not claim_is_disappearing(snapshot) and (patch := claim_patch(desired.pvc, claim)):
        yield Patch(Kind.PVC, patch, best_effort=True)


def _expand_claim(snapshot: Snapshot, desired: Desired) -> Iterator[Step]:
    claim = snapshot.children.pvc
    if (
        desired.pvc is None
        or claim is None
        or claim_is_disappearing(snapshot)
        or snapshot.claim_context.claim_holder is not None
    ):
        return
    if patch := claim_growth(claim, snapshot.storage.storage.size):
        yield Patch(Kind.PVC, patch, best_effort=True)


def claim_is_disappearing(snapshot: Snapshot) -> bool:
    """Whether the claim is being deleted, or soon will be because the UserStorage that owned it is gone. A claim that
    somebody else made may have any owner.
    """
    claim = snapshot.children.pvc
    if claim is None:
        return False
    if snapshot.storage.storage.claim_name is not None:
        return is_terminating(claim)
    return is_terminating(claim) or controller_uid(claim) not in (None, snapshot.storage.meta.uid)


def _pod(snapshot: Snapshot, desired: Desired, now: datetime) -> tuple[list[Step], str | None, tuple[datetime, ...]]:
    """Steps for the pod, what holds it back, and when to look again. Never two pods: a new one waits for the end of
    the old, which has the same name.
    """
    pod, storage = snapshot.children.pod, snapshot.storage
    if pod is None:
        if storage.suspended:
            return [], None, ()
        if _claim_blocks_pod(snapshot, desired):
            # Another UserStorage's end is an event; of claims and pods of others nothing tells.
            in_use = snapshot.claim_context.claim_holder is not None
            return [], "StorageNotReady", () if in_use else (now + volume_affinity.RECHECK_INTERVAL,)
        if (not_before := backoff.blocked_until(snapshot.pod_backoff, now)) is not None:
            return [], "PodBackoff", (not_before,)
        pod = volume_affinity.with_volume_affinity(desired.pod, snapshot)
        return [Create(Kind.POD, pod)], None, (now + storage.lifecycle.start_timeout,)
    if (deadline := pod_termination_deadline(snapshot)) is not None:
        return [], None, (deadline,)
    if why := _replacement_reason(snapshot, desired, pod) or volume_affinity.rescheduling_reason(snapshot):
        return [_delete(snapshot, pod, why, asked_for=True)], None, ()
    if why := pod_loss_reason(pod):
        return [_delete(snapshot, pod, why, asked_for=False)], None, ()
    patch = _pod_patch(snapshot, desired, pod)
    return [Patch(Kind.POD, patch)] if patch else [], None, volume_affinity.recheck_at(snapshot, now)


def _pod_patch(snapshot: Snapshot, desired: Desired, pod: Unstructured) -> Unstructured:
    """A pod that is left old on purpose keeps what tells of it; the labels by which Service and policy find it are mended."""
    patch = metadata_patch(desired.pod, pod)
    if deferral(snapshot, desired) is None:
        return patch
    ours = desired.service["metadata"]["labels"]
    labels = {key: value for key, value in patch.get("metadata", {}).get("labels", {}).items() if key in ours}
    return {"metadata": {"labels": labels}} if labels else {}


def _claim_blocks_pod(snapshot: Snapshot, desired: Desired) -> bool:
    if (
        claim_is_disappearing(snapshot)
        or snapshot.claim_context.claim_holder is not None
        or volume_affinity.pod_blocked_reason(snapshot) is not None
    ):
        return True
    if desired.pvc is not None:
        return False
    claim = snapshot.children.pvc
    return claim is None or not claim_is_shareable(claim)


def claim_is_shareable(claim: Unstructured) -> bool:
    """Whether the owner of an existing claim has opened it to UserStorages."""
    return (claim["metadata"].get("labels") or {}).get(names.LABEL_SHAREABLE) == "true"


def _replacement_reason(snapshot: Snapshot, desired: Desired, pod: Unstructured) -> str | None:
    if snapshot.storage.suspended:
        return "the UserStorage is suspended"
    if snapshot.claim_context.claim_holder is not None:
        return f"its claim serves UserStorage {snapshot.claim_context.claim_holder!r}"
    made_from = pod_hash(pod)
    if made_from is not None and made_from != desired.pod_hash and deferral(snapshot, desired) is None:
        return "the spec or the class asks for another pod"
    return None


def pod_loss_reason(pod: Unstructured) -> str | None:
    """Why a pod of ours is of no use any more, or was ended by others; None where it is neither."""
    if is_terminating(pod):
        words = pod_status.disruption(pod)
        return f"it was ended by others ({words})" if words is not None else None
    if pod_hash(pod) is None:
        return "it does not say what it was made from"
    status = pod.get("status", {})
    if status.get("phase") in ("Failed", "Succeeded"):
        words = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
        return f"it has ended ({status['phase']}: {words or 'no reason given'})"
    if spec_edited_by_hand(pod):
        return "its spec was edited by hand"
    return None


def deferral(snapshot: Snapshot, desired: Desired) -> str | None:
    """The reason (of PodUpToDate) for which a pod of an older spec is left running on purpose."""
    pod = snapshot.children.pod
    if pod is None or pod_hash(pod) == desired.pod_hash:
        return None
    if snapshot.storage.lifecycle.update_strategy is UpdateStrategy.WHEN_SUSPENDED:
        return "UpdateDeferred"
    made_from = _annotation(pod, names.ANNOTATION_SPEC_HASH)
    by_user = made_from is not None and made_from != desired.spec_hash
    return None if by_user or snapshot.may_replace else "WaitingForRollout"


def pod_hash(pod: Unstructured) -> str | None:
    """The hash that the pod was made with."""
    return _annotation(pod, names.ANNOTATION_POD_HASH)


def _annotation(pod: Unstructured, name: str) -> str | None:
    value = (pod["metadata"].get("annotations") or {}).get(name)
    return str(value) if value is not None else None


def _delete(snapshot: Snapshot, pod: Unstructured, why: str, *, asked_for: bool) -> DeletePod:
    return DeletePod(pod["metadata"]["uid"], snapshot.storage.lifecycle.termination_grace_period, why, asked_for)
