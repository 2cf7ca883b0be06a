"""Carries out a plan, step by step. No other code writes children. The process may be killed before and after every step."""

from collections import deque
from dataclasses import replace
from datetime import datetime

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import (
    AlreadyExists,
    Conflict,
    ConflictingController,
    GrowthRefused,
    NotFound,
    OperatorError,
    Refused,
)
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.snapshot import Snapshot, is_terminating
from userstorage_operator.plan.diff import without_absent
from userstorage_operator.plan.finalizers import release_patch
from userstorage_operator.plan.planner import refuse_foreign
from userstorage_operator.plan.pod import plan_pod, pod_deletion
from userstorage_operator.plan.steps import (
    AddFinalizer,
    Change,
    Create,
    Delete,
    DeletePod,
    InspectMountEvents,
    InspectMounts,
    Patch,
    Plan,
    RemoveFinalizer,
    Step,
    is_optional,
)
from userstorage_operator.reconcile.local_state import LocalState
from userstorage_operator.reconcile.mount_inspector import MountInspector
from userstorage_operator.reconcile.ports import Cluster
from userstorage_operator.status.outcome import ApplyResult

log = structlog.get_logger(__name__)


class Applier:
    """Carries out plans. The API server's responses go into the caches, so that the next reconcile sees what was written."""

    def __init__(self, cluster: Cluster, lister: Lister, state: LocalState) -> None:
        self._cluster = cluster
        self._lister = lister
        self._state = state
        self._inspector = MountInspector(cluster, lister)

    async def apply(self, plan: Plan, snapshot: Snapshot, now: datetime) -> ApplyResult:
        """Apply the steps of `plan` in order. Stop at the first failure that is blocking; the result has its error."""
        result, pending, action = ApplyResult(snapshot, plan), deque(plan.steps), ""
        verified = AddFinalizer() in plan.steps  # adding it fails if the object is gone or being deleted
        try:
            while pending:
                step = pending.popleft()
                if isinstance(step, Create) and not verified:
                    action, verified = f"get {names.KIND}", True
                    await self._verify_still_exists(result.snapshot)
                action = _action(step)
                match step:
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
            return replace(result, error=error, non_blocking=False, action=action)
        return result

    async def _try(self, step: Change, result: ApplyResult) -> ApplyResult:
        """Apply a step. The first non-blocking failure is put into the result; a blocking failure is raised."""
        tolerated = OperatorError if is_optional(step) else ConflictingController
        try:
            return replace(result, snapshot=await self._change(step, result.snapshot))
        except tolerated as error:
            return result if result.error is not None else replace(result, error=error, non_blocking=True, action=_action(step))

    async def _change(self, step: Change, snapshot: Snapshot) -> Snapshot:
        """Carry out one step, and return the snapshot with the child as it is after the step."""
        match step:
            case Create(kind, body):
                return _with_child(snapshot, kind, await self._create(kind, body, snapshot))
            case Patch(kind, patch):
                return _with_child(snapshot, kind, await self._repair(kind, patch, snapshot))
            case Delete(kind, uid):
                snapshot = _with_child(snapshot, kind, await self._delete(kind, uid, 0, snapshot))
                log.info("removed", action=f"delete {kind.resource.kind}")
                return snapshot
            case DeletePod():
                return _with_child(snapshot, Kind.POD, await self._delete_pod(step, snapshot))
            case AddFinalizer():
                await self._add_finalizer(snapshot)
                return snapshot

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

    async def _add_finalizer(self, snapshot: Snapshot) -> None:
        meta = snapshot.storage.meta
        path, value = (
            ("/metadata/finalizers/-", names.FINALIZER) if meta.finalizers else ("/metadata/finalizers", [names.FINALIZER])
        )
        add: Unstructured = {"op": "add", "path": path, "value": value}
        # Without the test, the finalizer could reach an object whose deletion has started, or another object of that name.
        test: Unstructured = {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}
        patched = await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, [test, add])
        self._lister.put(USER_STORAGES, patched)

    async def _create(self, kind: Kind, body: Unstructured, snapshot: Snapshot) -> Unstructured:
        namespace, name = snapshot.storage.meta.namespace, body["metadata"]["name"]
        refuse_foreign(kind, getattr(snapshot.children, kind.field), snapshot)
        try:
            child = await self._cluster.create(kind.resource, namespace, without_absent(body))
        except AlreadyExists as error:
            # It is not in our cache: it is foreign, or the watch has not delivered it yet, or it lacks the label that we select.
            child = await self._cluster.get(kind.resource, namespace, name)
            refuse_foreign(kind, child, snapshot)
            await self._restore_labels(kind, child, body, snapshot)
            raise Conflict(error.status, f"{kind.resource.kind} {name!r} already exists") from error
        if kind is Kind.POD:
            self._state.pods.record_try(snapshot.storage.meta.key)
        log.info("created", action=f"create {kind.resource.kind}", **_pod_name(kind, child))
        self._lister.put(kind.resource, child)
        return child

    async def _restore_labels(self, kind: Kind, child: Unstructured, body: Unstructured, snapshot: Snapshot) -> None:
        """Put an existing child into the cache. If it lacks the label that our watch selects, restore its labels first.

        A child without the label that is being deleted is left out: no event would remove it from the cache again.
        """
        labels = child["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY:
            self._lister.put(kind.resource, child)
        elif not is_terminating(child):
            await self._patch(kind, child, {"metadata": {"labels": body["metadata"]["labels"]}}, snapshot)

    async def _repair(self, kind: Kind, patch: Unstructured, snapshot: Snapshot) -> Unstructured:
        key = snapshot.storage.meta.key
        if kind is not Kind.PVC:  # a deletion must remove the owner of a retained claim, however often, or the files are lost
            self._raise_if_contested(key, kind)
        # The child as the plan saw it, or as an earlier step left it.
        child = await self._patch(kind, getattr(snapshot.children, kind.field), patch, snapshot)
        self._state.repairs.record_try((key, kind))
        return child

    def _raise_if_contested(self, key: Key, kind: Kind) -> None:
        if self._state.repairs.is_blocked((key, kind)):
            count = self._state.repairs.state((key, kind)).count
            raise ConflictingController(
                f"another controller keeps changing the {kind.resource.kind} back: it was repaired {count} times in quick"
                " succession; the next repair comes after a pause"
            )

    async def _patch(self, kind: Kind, seen: Unstructured, patch: Unstructured, snapshot: Snapshot) -> Unstructured:
        namespace, meta = snapshot.storage.meta.namespace, seen["metadata"]
        # Without resourceVersion, a later change by another client would be overwritten, or hidden by our response.
        precondition = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        patch = patch | {"metadata": patch.get("metadata", {}) | precondition}
        try:
            child = await self._cluster.merge_patch(kind.resource, namespace, meta["name"], patch)
        except NotFound as error:
            self._lister.discard(kind.resource, namespace, meta["name"], meta["uid"])
            raise Conflict(error.status, error.message) from error
        except Refused as error:
            if kind is Kind.PVC and "spec" in patch:
                raise GrowthRefused(error.status, error.message, error.reason, error.retry_after) from error
            raise
        log.info("repaired", action=f"patch {kind.resource.kind}", fields=sorted(patch), **_pod_name(kind, child))
        self._lister.put(kind.resource, child)
        return child

    async def _verify_still_exists(self, snapshot: Snapshot) -> None:
        """Ask the API server whether the UserStorage still exists, before the first child is created for it.

        The cache may be behind, and a child of a UserStorage that is gone would be left over. Adding the finalizer verifies the
        same, so a plan that does so needs no other check. Raises Conflict if the UserStorage is gone or being deleted.
        """
        meta = snapshot.storage.meta
        try:
            live = await self._cluster.get(USER_STORAGES, meta.namespace, meta.name)
        except NotFound as error:
            self._lister.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
            raise Conflict(error.status, error.message) from error
        if live["metadata"]["uid"] != meta.uid or is_terminating(live):
            self._lister.put(USER_STORAGES, live)
            raise Conflict(409, "the UserStorage is being deleted; the watch has not caught up yet")

    async def _delete_pod(self, step: DeletePod, snapshot: Snapshot) -> Unstructured | None:
        pod = await self._delete(Kind.POD, step.uid, step.grace_period, snapshot)
        name = names.child_name(snapshot.storage.slug)
        if step.requested:
            self._state.pods.forget(snapshot.storage.meta.key)
        log.info("pod_deletion_started", action="delete Pod", pod_name=name, why=step.reason)
        return pod

    async def _delete(self, kind: Kind, uid: str, grace_period: int, snapshot: Snapshot) -> Unstructured | None:
        """Start the deletion of the child with that uid. Return the terminating child; None if it is gone already."""
        namespace, name = snapshot.storage.meta.namespace, names.child_name(snapshot.storage.slug)
        try:
            answer = await self._cluster.delete(kind.resource, namespace, name, uid, grace_period, "Foreground")
        except NotFound:
            answer = None
        if answer is None or answer["kind"] != kind.resource.kind:
            self._lister.discard(kind.resource, namespace, name, uid)
            return None
        self._lister.put(kind.resource, answer)
        return answer

    async def _remove_finalizer(self, result: ApplyResult) -> ApplyResult:
        """Remove the finalizer, once the API server itself confirms that no pod is left: the cache may be behind."""
        snapshot = result.snapshot
        meta, name = snapshot.storage.meta, names.child_name(snapshot.storage.slug)
        try:
            pod: Unstructured | None = await self._cluster.get(Kind.POD.resource, meta.namespace, name)
        except NotFound:
            pod = None
        snapshot = _with_child(snapshot, Kind.POD, pod)
        if (left := snapshot.own_pod) is not None:
            self._lister.put(Kind.POD.resource, left)
            if not is_terminating(left):
                step = pod_deletion(snapshot, left, "its UserStorage is being deleted; the cache had missed the pod")
                snapshot = await self._change(step, snapshot)
            return replace(result, snapshot=snapshot)
        try:
            await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, release_patch(meta.uid, meta.finalizers))
        except NotFound:
            self._lister.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
        log.info("released", action="patch UserStorage")
        return replace(result, finalizer_removed=True)


def _with_child(snapshot: Snapshot, kind: Kind, child: Unstructured | None) -> Snapshot:
    return snapshot.with_children(replace(snapshot.children, **{kind.field: child}))


def _pod_name(kind: Kind, child: Unstructured) -> dict[str, str]:
    """Return the log field `pod_name`; no field if the child is not a pod."""
    return {"pod_name": child["metadata"]["name"]} if kind is Kind.POD else {}


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
        case InspectMounts():
            return "list Pod"
        case InspectMountEvents():
            return "list Event"
        case _:
            return "patch UserStorage"
