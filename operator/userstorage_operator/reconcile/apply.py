"""Carries out a plan, step by step. No other code writes children. The process may be killed before and after every step."""

from collections import deque
from dataclasses import replace
from datetime import datetime

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    NotFound,
    OperatorError,
)
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.contest import Undone, last_manager
from userstorage_operator.observed.snapshot import Snapshot, controller_uid, has_lost_volume, is_labelled, is_terminating
from userstorage_operator.plan.diff import LABEL_PATCH, labels_patch, without_absent
from userstorage_operator.plan.finalizers import has_finalizer
from userstorage_operator.plan.planner import refuse_foreign
from userstorage_operator.plan.pod import plan_pod, pod_deletion
from userstorage_operator.plan.steps import (
    AddFinalizer,
    Change,
    Create,
    Delete,
    DeletePod,
    InspectClaim,
    InspectMountEvents,
    InspectMounts,
    Patch,
    Plan,
    ReleasePolicy,
    RemoveFinalizer,
    Step,
    depends_on,
    is_optional,
)
from userstorage_operator.reconcile.children import patch_child, pod_name, with_live_child
from userstorage_operator.reconcile.finalizers import Finalizers
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.mount_inspector import MountInspector
from userstorage_operator.reconcile.ports import Cluster
from userstorage_operator.status.outcome import ApplyResult

log = structlog.get_logger(__name__)

_TRIES_TO_DELETE = 3
"""Requests for one deletion, of a child that other clients keep changing."""


class Applier:
    """Carries out plans. The API server's responses go into the caches, so that the next reconcile sees what was written."""

    def __init__(self, cluster: Cluster, lister: Lister, state: LocalState) -> None:
        self._cluster = cluster
        self._lister = lister
        self._state = state
        self._inspector = MountInspector(cluster, lister)
        self._finalizers = Finalizers(cluster, lister)

    async def apply(self, plan: Plan, snapshot: Snapshot, now: datetime) -> ApplyResult:
        """Apply the steps of `plan` in order. Stop at the first failure that is blocking; the result has its error."""
        result, pending, action = ApplyResult(snapshot, plan), deque(plan.steps), ""
        verified = AddFinalizer() in plan.steps  # adding it fails if the object has changed
        try:
            while pending:
                step = pending.popleft()
                if self._state.repairs.has_to_wait(step, result):
                    verified = verified and step != AddFinalizer()
                    pending = deque(later for later in pending if not depends_on(later, step))
                    continue
                if not verified and (isinstance(step, Create) or _adopts(step)):
                    action, verified = f"get {names.KIND}", True
                    await self._verify_still_exists(result.snapshot)
                action = _action(step)
                match step:
                    case InspectClaim(body):
                        await self._inspect_claim(body, result)
                    case InspectMounts():
                        result = await self._inspect_mounts(step, result, now)
                        pending.extendleft(reversed(result.plan.steps))
                    case InspectMountEvents():
                        result = await self._inspect_events(result, now)
                    case RemoveFinalizer():
                        result = await self._remove_finalizer(result)
                    case _:
                        result = await self._try(step, result)
        except OperatorError as error:
            result = replace(result, error=error, non_blocking=False, action=action)
        return self._state.repairs.with_contests(result)

    async def _try(self, step: Change, result: ApplyResult) -> ApplyResult:
        """Apply a step. If it `is_optional`, its failure is put into the result if it is the first; any other failure is raised."""
        try:
            return replace(result, snapshot=await self._change(step, result))
        except OperatorError as error:
            if not is_optional(step):
                raise
            return result if result.error is not None else replace(result, error=error, non_blocking=True, action=_action(step))

    async def _change(self, step: Change, result: ApplyResult) -> Snapshot:
        """Carry out one step, and return the snapshot after it."""
        snapshot = result.snapshot
        match step:
            case Create(kind):
                return snapshot.with_child(kind, await self._create(step, result))
            case Patch(kind, patch):
                # The child as the plan saw it, or as an earlier step left it.
                seen = getattr(snapshot.children, kind.field)
                child = await patch_child(self._cluster, self._lister, kind, seen, patch)
                self._state.repairs.record(step, result, Undone.CHANGED, last_manager(seen, patch))
                return snapshot.with_child(kind, child)
            case Delete(kind, uid):
                seen = getattr(snapshot.children, kind.field)
                if has_finalizer(seen):
                    snapshot = snapshot.with_child(kind, await self._finalizers.release(seen))
                snapshot = snapshot.with_child(kind, await self._delete(kind, uid, 0, snapshot))
                self._state.repairs.record(
                    step, result, Undone.CREATED, last_manager(seen, {"metadata": {"ownerReferences": None}})
                )
                log.info("removed", action=f"delete {kind.resource.kind}")
                return snapshot
            case DeletePod():
                return snapshot.with_child(Kind.POD, await self._delete_pod(step, snapshot))
            case ReleasePolicy():
                if (policy := snapshot.children.network_policy) is None:
                    return snapshot
                return snapshot.with_child(Kind.NETWORK_POLICY, await self._finalizers.release_unless_selected(policy))
            case AddFinalizer():
                await self._finalizers.add(snapshot)
                self._state.repairs.record(step, result, Undone.FINALIZER_REMOVED, None)
                return snapshot

    async def _inspect_claim(self, body: Unstructured, result: ApplyResult) -> None:
        """Raise Conflict if the claim exists, and restore the labels without which the watch does not show it."""
        name, snapshot = body["metadata"]["name"], result.snapshot
        try:
            claim = await self._cluster.get(Kind.PVC.resource, snapshot.storage.meta.namespace, name)
        except NotFound:
            return
        refuse_foreign(Kind.PVC, claim, snapshot)
        await self._restore_labels(Create(Kind.PVC, body), claim, result)
        raise Conflict(409, f"claim {name!r} exists; the watch has not shown it yet")

    async def _inspect_mounts(self, step: InspectMounts, result: ApplyResult, now: datetime) -> ApplyResult:
        """List the pods that mount the claim, then plan the pod again.

        The plan of the result has only the steps for the pod.
        """
        snapshot = result.snapshot
        context = replace(snapshot.claim_context, mounts=await self._inspector.mounts(snapshot))
        snapshot = replace(snapshot, claim_context=context)
        pod_plan = plan_pod(snapshot, step.desired, now) if step.desired is not None else Plan()
        plan = replace(result.plan, steps=pod_plan.steps, hold=pod_plan.hold, requeue_at=pod_plan.requeue_at)
        return replace(result, snapshot=snapshot, plan=plan)

    async def _inspect_events(self, result: ApplyResult, now: datetime) -> ApplyResult:
        snapshot, pod = result.snapshot, result.snapshot.own_pod
        if pod is None:
            return result
        events = await self._inspector.events(pod, now)
        self._state.mount_events[snapshot.storage.meta.key] = events
        context = replace(snapshot.claim_context, mount_failure=events.failure, events_read_at=events.read_at)
        return replace(result, snapshot=replace(snapshot, claim_context=context))

    async def _remove_finalizer(self, result: ApplyResult) -> ApplyResult:
        """End the deletion, once the API server itself confirms that no pod is left: the cache may be behind."""
        snapshot = await with_live_child(self._cluster, Kind.POD, result.snapshot)
        if (left := snapshot.own_pod) is None:
            await self._finalizers.remove(snapshot)
            return replace(result, finalizer_removed=True)
        self._lister.put(Kind.POD.resource, left)
        result = replace(result, snapshot=snapshot)
        if not is_labelled(left):  # no event would report its end
            result = await self._try(Patch(Kind.POD, LABEL_PATCH, best_effort=True), result)
        if not is_terminating(left):
            step = pod_deletion(snapshot, left, "its UserStorage is being deleted; the cache had missed the pod")
            result = replace(result, snapshot=await self._change(step, result))
        return result

    async def _create(self, step: Create, result: ApplyResult) -> Unstructured:
        kind, body, snapshot = step.kind, step.body, result.snapshot
        namespace, name = snapshot.storage.meta.namespace, body["metadata"]["name"]
        refuse_foreign(kind, getattr(snapshot.children, kind.field), snapshot)
        try:
            child = await self._cluster.create(kind.resource, namespace, without_absent(body))
        except AlreadyExists as error:
            # It is not in our cache: it is foreign, or the watch has not delivered it yet, or it lacks the label that we select.
            child = await self._cluster.get(kind.resource, namespace, name)
            refuse_foreign(kind, child, snapshot)
            await self._restore_labels(step, child, result)
            raise Conflict(error.status, f"{kind.resource.kind} {name!r} already exists") from error
        if kind is Kind.POD:
            self._state.pods.record_try(snapshot.storage.meta.key)
            self._state.repairs.forget_pod(snapshot.storage.meta.key)  # its loss has pauses of its own
        self._state.repairs.record(step, result, Undone.DELETED, None)
        log.info("created", action=f"create {kind.resource.kind}", **pod_name(kind, child))
        self._lister.put(kind.resource, child)
        return child

    async def _restore_labels(self, step: Create, child: Unstructured, result: ApplyResult) -> None:
        """Put an existing child into the cache. If it lacks the label that our watch selects, restore its labels first: no event would
        remove it from the cache again.
        """
        if is_labelled(child):
            self._lister.put(step.kind.resource, child)
        else:
            patch = labels_patch(step.body, child)
            await patch_child(self._cluster, self._lister, step.kind, child, patch)
            self._state.repairs.record(step, result, Undone.CHANGED, last_manager(child, patch))

    async def _verify_still_exists(self, snapshot: Snapshot) -> None:
        """Ask the API server whether the UserStorage still exists, before the first child is created for it.

        The cache may be behind, and a child of a UserStorage that is gone would be left over. Adding the finalizer verifies the
        same; a watch that has just delivered an event does not, because a list from the past may have come after it. Raises Conflict
        if the UserStorage is gone, is being deleted, or has lost its finalizer.
        """
        meta = snapshot.storage.meta
        try:
            live = await self._cluster.get(USER_STORAGES, meta.namespace, meta.name)
        except NotFound as error:
            self._lister.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
            raise Conflict(error.status, error.message) from error
        if live["metadata"]["uid"] != meta.uid or is_terminating(live):
            state = "is being deleted"
        elif not has_finalizer(live):  # another client has removed it: the next reconcile adds it before it creates anything
            state = "has lost its finalizer"
        else:
            return
        self._lister.put(USER_STORAGES, live)
        raise Conflict(409, f"the UserStorage {state}; the watch has not caught up yet")

    async def _verify_claim_stays(self, snapshot: Snapshot) -> None:
        """Raise Conflict if the API server itself says that the claim or its volume ends or is gone: no pod could follow ours."""
        claim = snapshot.children.pvc
        if claim is None:
            return
        namespace, meta = snapshot.storage.meta.namespace, claim["metadata"]
        try:
            live = await self._cluster.get(Kind.PVC.resource, namespace, meta["name"])
        except NotFound as error:
            self._lister.discard(Kind.PVC.resource, namespace, meta["name"], meta["uid"])
            raise Conflict(error.status, error.message) from error
        if is_terminating(live) or has_lost_volume(live):
            if is_labelled(live):
                self._lister.put(Kind.PVC.resource, live)
            ends = "is being deleted" if is_terminating(live) else "has lost its volume"
            raise Conflict(409, f"claim {meta['name']!r} {ends}; the watch has not caught up yet")

    async def _delete_pod(self, step: DeletePod, snapshot: Snapshot) -> Unstructured | None:
        if step.only_if_claim_stays:
            await self._verify_claim_stays(snapshot)
        pod = await self._delete(Kind.POD, step.uid, step.grace_period, snapshot, as_seen=step.remounts)
        name = names.child_name(snapshot.storage.slug)
        key = snapshot.storage.meta.key
        if step.requested:
            self._state.pods.forget(key)
        else:
            self._state.pods.record_loss(key, step.reason)
        if step.remounts:
            self._state.remounts[key] = snapshot.remounts + 1
        else:
            self._state.remounts.pop(key, None)
        self._state.repairs.forget_pod(key)
        log.info("pod_deletion_started", action="delete Pod", pod_name=name, why=step.reason)
        return pod

    async def _delete(
        self, kind: Kind, uid: str, grace_period: int, snapshot: Snapshot, *, as_seen: bool = False
    ) -> Unstructured | None:
        """Start the deletion of the child with that uid. Return the terminating child; None if it is gone already.

        Each request names a version of which the owner is known: the garbage collector may have orphaned the child by now, or
        another controller adopted it. A version that only others have changed since is deleted just the same, or a tenant who
        keeps changing it could keep it; with `as_seen`, no other than that of the plan.

        Raises Conflict if the child has another owner, changed at every try, or changed before a try that failed otherwise.
        """
        namespace, name = snapshot.storage.meta.namespace, names.child_name(snapshot.storage.slug)
        seen: Unstructured | None = getattr(snapshot.children, kind.field)  # as the plan saw it, or as an earlier step left it
        if (child := seen) is None:
            return None
        for tries_left in reversed(range(1 if as_seen else _TRIES_TO_DELETE)):
            try:
                answer = await self._delete_version(kind, child, uid, grace_period, planned=child is seen)
            except NotFound:
                break
            except Conflict:
                live = await self._live_after_conflict(kind, namespace, name, uid)
                if live is None:
                    break
                if not tries_left or live["metadata"]["uid"] != uid or controller_uid(live) != controller_uid(child):
                    raise
                child = live
            else:
                if answer["kind"] != kind.resource.kind:  # gone at once
                    break
                self._lister.put(kind.resource, answer)
                return answer
        self._lister.discard(kind.resource, namespace, name, uid)
        return None

    async def _delete_version(
        self, kind: Kind, child: Unstructured, uid: str, grace_period: int, *, planned: bool
    ) -> Unstructured:
        """Request the deletion of this version of the child, and return the answer.

        Any failure for a version that the plan has not seen is a Conflict: the snapshot is out of date, and so would be its report.
        """
        meta = child["metadata"]
        version = meta["resourceVersion"]
        try:
            return await self._cluster.delete(
                kind.resource, meta["namespace"], meta["name"], uid, grace_period, "Foreground", version
            )
        except ClusterError as error:
            if planned or isinstance(error, NotFound):
                raise
            raise Conflict(error.status, error.message, retry_after=error.retry_after) from error

    async def _live_after_conflict(self, kind: Kind, namespace: str, name: str, uid: str) -> Unstructured | None:
        """Return the object of that name, which the cache gets without waiting for the watch; None if there is none."""
        try:
            live = await self._cluster.get(kind.resource, namespace, name)
        except NotFound:
            return None
        if live["metadata"]["uid"] == uid or is_labelled(live):
            self._lister.put(kind.resource, live)
        return live


def _adopts(step: Step) -> bool:
    """Whether the step makes the UserStorage the owner of an existing child, which must not be done once its deletion has started:
    the garbage collector may have removed the owner on purpose. A patch that removes the owner does not.
    """
    owners = (step.patch.get("metadata", {}).get("ownerReferences") or ()) if isinstance(step, Patch) else ()
    return any(owner["kind"] == names.KIND and owner.get("controller") for owner in owners)


def _action(step: Step) -> str:
    """Return the verb and the kind of the request that a step sends, for the log: `create Pod`."""
    match step:
        case Create(kind):
            return f"create {kind.resource.kind}"
        case Patch(kind):
            return f"patch {kind.resource.kind}"
        case Delete(kind):
            return f"delete {kind.resource.kind}"
        case DeletePod():
            return "delete Pod"
        case ReleasePolicy():
            return "patch NetworkPolicy"
        case InspectClaim():
            return "get PersistentVolumeClaim"
        case InspectMounts():
            return "list Pod"
        case InspectMountEvents():
            return "list Event"
        case _:
            return "patch UserStorage"
