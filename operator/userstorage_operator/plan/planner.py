"""What to do about a world: pure, so that any world can be asked about in a test."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from userstorage_operator.api import names
from userstorage_operator.api.errors import LeftBehind, NameConflict
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Object
from userstorage_operator.api.userstorage import ReclaimPolicy, UpdateStrategy
from userstorage_operator.observed import backoff, pod_status
from userstorage_operator.observed.snapshot import World, claim_is_ours, controller_uid, is_of_our_kind, is_ours, is_terminating
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.diff import child_patch, claim_growth, claim_patch, metadata_patch, spec_edited_by_hand


@dataclass(frozen=True, slots=True)
class AddFinalizer:
    """So that a deletion waits for the pod."""


@dataclass(frozen=True, slots=True)
class ReleaseFinalizer:
    """The pod is gone as far as we saw; the actor makes sure of it before it lets the object go."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make a child."""

    kind: Kind
    body: Object


@dataclass(frozen=True, slots=True)
class Patch:
    """Put a child right."""

    kind: Kind
    patch: Object
    may_fail: bool = False
    """Of claims, which their storage class may not let grow, and whose owner an API server with
    OwnerReferencesPermissionEnforcement refuses, since the operator may not delete them. Two patches, or the one refusal
    would keep the other from being done.
    """


@dataclass(frozen=True, slots=True)
class Remove:
    """End a child that the class no longer asks for; `uid` keeps a newer one of the same name safe."""

    kind: Kind
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """End the pod gracefully; `uid` keeps a newer pod of the same name safe."""

    uid: str
    grace_period: int
    """Seconds."""
    why: str
    asked_for: bool
    """By the user or an administrator; else the pod was lost, and the next one may have to wait."""


Change = AddFinalizer | Create | Patch | Remove | DeletePod
Step = Change | ReleaseFinalizer


def keeps_nobody_from_the_files(step: Step) -> bool:
    """Whether the other steps do not need this one: a claim that cannot grow or be owned, or a way in from outside that cannot
    be made, is told and tried again, and everything else is done.
    """
    return isinstance(step, Create | Patch | Remove) and (step.kind in EXPOSURE or (isinstance(step, Patch) and step.may_fail))


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order; each may fail, then the rest waits for the next pass unless `keeps_nobody_from_the_files`."""

    steps: tuple[Step, ...] = ()
    hold: str | None = None
    """Reason (of Ready) that keeps a pod from being made."""
    wake_at: tuple[datetime, ...] = field(default=())
    """Moments at which the answer changes although nothing happens."""

    @property
    def makes_pod(self) -> bool:
        """Whether there will be a new pod."""
        return any(isinstance(step, Create) and step.kind is Kind.POD for step in self.steps)

    @property
    def ends_pod(self) -> bool:
        """Whether the pod is to go."""
        return any(isinstance(step, DeletePod) for step in self.steps)


def decide(world: World, desired: Desired, now: datetime) -> Plan:
    """The plan for a live UserStorage that is its user's only one and whose class exists.

    Raises NameConflict before any step where a foreign object has the name of a child that the files are reached by.
    """
    for kind in (Kind.SERVICE, Kind.POD):
        refuse_foreign(kind, getattr(world.children, kind.field), world)
    for kind in (Kind.POLICY, Kind.CLAIM):
        if getattr(desired, kind.field) is not None:
            refuse_foreign(kind, getattr(world.children, kind.field), world)
    pod_steps, hold, wake_at = _pod(world, desired, now)
    steps = [
        *_finalizer(world),
        *_unwanted(world, desired),
        *_mend(Kind.POLICY, desired.policy, world.children.policy),
        *_claim(world, desired),
        *_mend(Kind.SERVICE, desired.service, world.children.service),
        *pod_steps,
        *_lead_in(Kind.INGRESS, desired.ingress, world),
        *_lead_in(Kind.ROUTE, desired.route, world),
        *_growth(world, desired),
    ]
    return Plan(tuple(steps), hold, wake_at)


def decide_deletion(world: World) -> Plan:
    """Pod first, then the object: the finalizer goes when the pod has gone. The garbage collector takes the rest."""
    if names.FINALIZER not in world.storage.meta.finalizers:
        return Plan()
    pod, keep = world.children.pod, tuple(_keep_claim(world))
    if pod is None or not is_ours(pod, world.storage.meta.uid):
        return Plan((*keep, ReleaseFinalizer()))
    deadline = deletion_deadline(world)
    wake_at = (deadline,) if deadline else ()
    if is_terminating(pod):
        return Plan(keep, wake_at=wake_at)
    return Plan((*keep, _delete(world, pod, "its UserStorage is being deleted", asked_for=True)), wake_at=wake_at)


def decide_obstructed(world: World) -> Plan:
    """The plan where the spec cannot be acted on: touch nothing, but stop a pod that the user wants stopped."""
    pod = world.children.pod
    if (deadline := ending_deadline(world)) is not None:
        return Plan(wake_at=(deadline,))
    if world.storage.suspended and pod is not None and is_ours(pod, world.storage.meta.uid):
        return Plan((_delete(world, pod, "the UserStorage is suspended", asked_for=True),))
    return Plan()


def _keep_claim(world: World) -> Iterator[Step]:
    """Take the claim out of the garbage collector's hands where the user has come to think better of Delete: the spec
    may have changed in the same moment as the object was deleted, and counts until the end.
    """
    claim, storage = world.children.claim, world.storage
    if claim is None or storage.storage.claim_name is not None or storage.storage.reclaim_policy is ReclaimPolicy.DELETE:
        return
    if claim_is_ours(claim, storage) and controller_uid(claim) == storage.meta.uid:
        yield Patch(Kind.CLAIM, {"metadata": {"ownerReferences": None}})


def deletion_deadline(world: World) -> datetime | None:
    """When a deletion counts as stuck; None for an object that is not being deleted, or no longer held by us."""
    meta = world.storage.meta
    if meta.deleted_at is None or names.FINALIZER not in meta.finalizers:
        return None
    return meta.deleted_at + world.storage.lifecycle.deletion_timeout


def ending_deadline(world: World) -> datetime | None:
    """When a pod of ours counts as stuck; None where none is ending. Its grace period is its own."""
    pod = world.children.pod
    if pod is None or not is_ours(pod, world.storage.meta.uid) or not is_terminating(pod):
        return None
    return parse_time(pod["metadata"]["deletionTimestamp"]) + world.storage.lifecycle.deletion_timeout


def refuse_foreign(kind: Kind, child: Object | None, world: World) -> None:
    """Raise NameConflict where `child` exists and is not ours, LeftBehind where it was another UserStorage's.

    Only one UserStorage of a user gets as far as this, so that other one is gone, or going.
    """
    if child is None:
        return
    ours = claim_is_ours(child, world.storage) if kind is Kind.CLAIM else is_ours(child, world.storage.meta.uid)
    if not ours:
        name = child["metadata"]["name"]
        if kind is not Kind.CLAIM and is_of_our_kind(child):
            raise LeftBehind(f"{kind.resource.kind} {name!r} of a UserStorage that is gone has not been collected yet")
        raise NameConflict(f"a {kind.resource.kind} {name!r} that is not ours is in the way; it is left alone")


def _finalizer(world: World) -> Iterator[Step]:
    if names.FINALIZER not in world.storage.meta.finalizers:
        yield AddFinalizer()


def _unwanted(world: World, desired: Desired) -> Iterator[Step]:
    """Children of ours that the class does not ask for any more: a policy must not go on denying, a way in must close."""
    for kind in (Kind.POLICY, *EXPOSURE):
        live = getattr(world.children, kind.field)
        if getattr(desired, kind.field) is not None or live is None or is_terminating(live):
            continue
        if is_ours(live, world.storage.meta.uid):
            yield Remove(kind, live["metadata"]["uid"])


def _mend(kind: Kind, desired: Object | None, live: Object | None) -> Iterator[Step]:
    if desired is None:
        return
    if live is None:
        yield Create(kind, desired)
    elif not is_terminating(live) and (patch := child_patch(desired, live)):
        yield Patch(kind, patch)


def _lead_in(kind: Kind, desired: Object | None, world: World) -> Iterator[Step]:
    """A way in from outside. One in the place of ours counts as none: that ours cannot be made keeps nobody from the files."""
    live = getattr(world.children, kind.field)
    ours = live is not None and is_ours(live, world.storage.meta.uid)
    yield from _mend(kind, desired, live if ours else None)


def _claim(world: World, desired: Desired) -> Iterator[Step]:
    claim = world.children.claim
    if desired.claim is None or world.surroundings.claim_user is not None:
        return
    if claim is None:
        yield Create(Kind.CLAIM, desired.claim)
    elif not claim_is_leaving(world) and (patch := claim_patch(desired.claim, claim)):
        yield Patch(Kind.CLAIM, patch, may_fail=True)


def _growth(world: World, desired: Desired) -> Iterator[Step]:
    claim = world.children.claim
    if desired.claim is None or claim is None or claim_is_leaving(world) or world.surroundings.claim_user is not None:
        return
    if patch := claim_growth(claim, world.storage.storage.size):
        yield Patch(Kind.CLAIM, patch, may_fail=True)


def claim_is_leaving(world: World) -> bool:
    """Whether the claim is being deleted, or soon will be because the UserStorage that owned it is gone. A claim that
    somebody else made may have any owner.
    """
    claim = world.children.claim
    if claim is None:
        return False
    if world.storage.storage.claim_name is not None:
        return is_terminating(claim)
    return is_terminating(claim) or controller_uid(claim) not in (None, world.storage.meta.uid)


def _pod(world: World, desired: Desired, now: datetime) -> tuple[list[Step], str | None, tuple[datetime, ...]]:
    """Steps for the pod, what holds it back, and when to look again. Never two pods: a new one waits for the end of
    the old, which has the same name.
    """
    pod, storage = world.children.pod, world.storage
    if pod is None:
        if storage.suspended:
            return [], None, ()
        if _claim_holds_back(world, desired):
            # Another UserStorage's end is an event; of claims and pods of others nothing tells.
            in_use = world.surroundings.claim_user is not None
            return [], "StorageNotReady", () if in_use else (now + volume_affinity.LOOK_INTERVAL,)
        if (not_before := backoff.held_until(world.pod_starts, now)) is not None:
            return [], "PodBackoff", (not_before,)
        pod = volume_affinity.beside_the_volume(desired.pod, world)
        return [Create(Kind.POD, pod)], None, (now + storage.lifecycle.start_timeout,)
    if (deadline := ending_deadline(world)) is not None:
        return [], None, (deadline,)
    if why := _why_superseded(world, desired, pod) or volume_affinity.why_follow_anew(world):
        return [_delete(world, pod, why, asked_for=True)], None, ()
    if why := why_lost(pod):
        return [_delete(world, pod, why, asked_for=False)], None, ()
    patch = _pod_patch(world, desired, pod)
    return [Patch(Kind.POD, patch)] if patch else [], None, volume_affinity.look_again_at(world, now)


def _pod_patch(world: World, desired: Desired, pod: Object) -> Object:
    """A pod that is left old on purpose keeps what tells of it; the labels by which Service and policy find it are mended."""
    patch = metadata_patch(desired.pod, pod)
    if deferral(world, desired) is None:
        return patch
    ours = desired.service["metadata"]["labels"]
    labels = {key: value for key, value in patch.get("metadata", {}).get("labels", {}).items() if key in ours}
    return {"metadata": {"labels": labels}} if labels else {}


def _claim_holds_back(world: World, desired: Desired) -> bool:
    if claim_is_leaving(world) or world.surroundings.claim_user is not None or volume_affinity.why_no_pod(world) is not None:
        return True
    if desired.claim is not None:
        return False
    claim = world.children.claim
    return claim is None or not claim_is_shareable(claim)


def claim_is_shareable(claim: Object) -> bool:
    """Whether the owner of an existing claim has opened it to UserStorages."""
    return (claim["metadata"].get("labels") or {}).get(names.LABEL_SHAREABLE) == "true"


def _why_superseded(world: World, desired: Desired, pod: Object) -> str | None:
    if world.storage.suspended:
        return "the UserStorage is suspended"
    if world.surroundings.claim_user is not None:
        return f"its claim serves UserStorage {world.surroundings.claim_user!r}"
    made_from = pod_hash(pod)
    if made_from is not None and made_from != desired.pod_hash and deferral(world, desired) is None:
        return "the spec or the class asks for another pod"
    return None


def why_lost(pod: Object) -> str | None:
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


def deferral(world: World, desired: Desired) -> str | None:
    """The reason (of PodUpToDate) for which a pod of an older spec is left running on purpose."""
    pod = world.children.pod
    if pod is None or pod_hash(pod) == desired.pod_hash:
        return None
    if world.storage.lifecycle.update_strategy is UpdateStrategy.WHEN_SUSPENDED:
        return "UpdateDeferred"
    made_from = _annotation(pod, names.ANNOTATION_SPEC_HASH)
    by_user = made_from is not None and made_from != desired.spec_hash
    return None if by_user or world.may_replace else "WaitingForRollout"


def pod_hash(pod: Object) -> str | None:
    """The hash that the pod was made with."""
    return _annotation(pod, names.ANNOTATION_POD_HASH)


def _annotation(pod: Object, name: str) -> str | None:
    value = (pod["metadata"].get("annotations") or {}).get(name)
    return str(value) if value is not None else None


def _delete(world: World, pod: Object, why: str, *, asked_for: bool) -> DeletePod:
    return DeletePod(pod["metadata"]["uid"], world.storage.lifecycle.termination_grace_period, why, asked_for)
