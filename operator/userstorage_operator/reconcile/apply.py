"""The third verb: carry out a plan, step by step. Every step is safe to be cut off before and after."""

from dataclasses import dataclass, replace

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
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.snapshot import Snapshot, is_ours, is_terminating
from userstorage_operator.plan.diff import without_absent
from userstorage_operator.plan.finalizers import release_patch
from userstorage_operator.plan.planner import (
    AddFinalizer,
    Change,
    Create,
    Delete,
    DeletePod,
    Patch,
    Plan,
    RemoveFinalizer,
    Step,
    is_optional,
    refuse_foreign,
)
from userstorage_operator.reconcile.pod_starts import PodStartBook
from userstorage_operator.reconcile.ports import Cluster
from userstorage_operator.reconcile.repairs import RepairBook

log = structlog.get_logger(__name__)

_Failed = tuple[OperatorError, str]
"""With what was being done."""


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """The world after the steps that went well, and the error of the one that did not."""

    snapshot: Snapshot
    error: OperatorError | None = None
    non_blocking: bool = False
    """The error kept no other step from being done."""
    finalizer_removed: bool = False
    """The finalizer is off: there may be no object left to tell about."""
    action: str = ""
    """What failed, as the log names it; empty where nothing did, or nothing was tried."""


class Applier:
    """Writes to the cluster, and nothing else does. Answers go into the views, so the next pass reads its own writes."""

    def __init__(self, cluster: Cluster, views: Lister, starts: PodStartBook, repairs: RepairBook) -> None:
        self._cluster = cluster
        self._views = views
        self._starts = starts
        self._repairs = repairs

    async def apply(self, plan: Plan, snapshot: Snapshot) -> ApplyResult:
        """Carry out the steps of `plan` in order, up to the first failure of one that the others need."""
        released, failed, action = False, None, f"get {names.KIND}"
        try:
            if any(isinstance(step, Create) for step in plan.steps) and AddFinalizer() not in plan.steps:
                await self._verify_still_exists(snapshot)
            for step in plan.steps:
                action = _action(step)
                if isinstance(step, RemoveFinalizer):
                    snapshot, released = await self._remove_finalizer(snapshot)
                else:
                    snapshot, failed = await self._try(step, snapshot, failed)
        except OperatorError as error:
            return ApplyResult(snapshot, error, action=action)
        soft, action = failed or (None, "")
        return ApplyResult(snapshot, soft, non_blocking=soft is not None, finalizer_removed=released, action=action)

    async def _try(self, step: Change, snapshot: Snapshot, failed: _Failed | None) -> tuple[Snapshot, _Failed | None]:
        """The world after the step, and the first failure of all that the others do not need. Raises those of steps that they do."""
        tolerated = OperatorError if is_optional(step) else ConflictingController
        try:
            return await self._step(step, snapshot), failed
        except tolerated as error:
            return snapshot, failed or (error, _action(step))

    async def _step(self, step: Change, snapshot: Snapshot) -> Snapshot:
        """The world after one step."""
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

    async def _add_finalizer(self, snapshot: Snapshot) -> None:
        meta = snapshot.storage.meta
        where, what = (
            ("/metadata/finalizers/-", names.FINALIZER) if meta.finalizers else ("/metadata/finalizers", [names.FINALIZER])
        )
        add: Unstructured = {"op": "add", "path": where, "value": what}
        # The test keeps us from adding it to an object whose deletion has begun, or to a namesake.
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}
        patched = await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, [version, add])
        self._views.put(USER_STORAGES, patched)

    async def _create(self, kind: Kind, body: Unstructured, snapshot: Snapshot) -> Unstructured:
        namespace, name = snapshot.storage.meta.namespace, body["metadata"]["name"]
        refuse_foreign(kind, getattr(snapshot.children, kind.field), snapshot)
        try:
            child = await self._cluster.create(kind.resource, namespace, without_absent(body))
        except AlreadyExists as error:
            # Not in our view: a stranger, or one of ours that the watch has not brought yet, or has lost sight of.
            child = await self._cluster.get(kind.resource, namespace, name)
            refuse_foreign(kind, child, snapshot)
            await self._restore_labels(kind, child, body, snapshot)
            raise Conflict(error.status, f"{kind.resource.kind} {name!r} was there already") from error
        if kind is Kind.POD:
            self._starts.made(snapshot.storage.meta.key)
        log.info("created", action=f"create {kind.resource.kind}", **_pod(kind, child))
        self._views.put(kind.resource, child)
        return child

    async def _restore_labels(self, kind: Kind, child: Unstructured, body: Unstructured, snapshot: Snapshot) -> None:
        """Give a child that lost the label by which we watch its labels back. One that is ending is left to end: what
        is not watched must not get into the view, for nothing would tell when it goes.
        """
        labels = child["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY:
            self._views.put(kind.resource, child)
        elif not is_terminating(child):
            await self._patch(kind, child, {"metadata": {"labels": body["metadata"]["labels"]}}, snapshot)

    async def _repair(self, kind: Kind, patch: Unstructured, snapshot: Snapshot) -> Unstructured:
        key = snapshot.storage.meta.key
        if kind is not Kind.PVC:  # at the end its owner has to go, however often, or the files do
            self._repairs.refuse_contested(key, kind)
        # The child as the plan saw it, or as an earlier step left it.
        child = await self._patch(kind, getattr(snapshot.children, kind.field), patch, snapshot)
        self._repairs.made(key, kind)
        return child

    async def _patch(self, kind: Kind, seen: Unstructured, patch: Unstructured, snapshot: Snapshot) -> Unstructured:
        namespace, meta = snapshot.storage.meta.namespace, seen["metadata"]
        # With the version: a change by others since would be overwritten unseen, or hidden by the answer to ours.
        precondition = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        patch = patch | {"metadata": patch.get("metadata", {}) | precondition}
        try:
            child = await self._cluster.merge_patch(kind.resource, namespace, meta["name"], patch)
        except NotFound as error:
            self._views.discard(kind.resource, namespace, meta["name"], meta["uid"])
            raise Conflict(error.status, error.message) from error
        except Refused as error:
            if kind is Kind.PVC and "spec" in patch:
                raise GrowthRefused(error.status, error.message, error.reason, error.retry_after) from error
            raise
        log.info("repaired", action=f"patch {kind.resource.kind}", fields=sorted(patch), **_pod(kind, child))
        self._views.put(kind.resource, child)
        return child

    async def _verify_still_exists(self, snapshot: Snapshot) -> None:
        """Ask the API server itself before anything is made for an object: the view may be behind, and a child made for
        an object that is going, or gone, would be left over. Setting the finalizer is such a question too.
        """
        meta = snapshot.storage.meta
        try:
            live = await self._cluster.get(USER_STORAGES, meta.namespace, meta.name)
        except NotFound as error:
            self._views.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
            raise Conflict(error.status, error.message) from error
        if live["metadata"]["uid"] != meta.uid or is_terminating(live):
            self._views.put(USER_STORAGES, live)
            raise Conflict(409, "the UserStorage is going, which the watch has not told yet")

    async def _delete_pod(self, step: DeletePod, snapshot: Snapshot) -> Unstructured | None:
        pod = await self._delete(Kind.POD, step.uid, step.grace_period, snapshot)
        name = names.child_name(snapshot.storage.slug)
        if step.requested:
            self._starts.forget(snapshot.storage.meta.key)
        log.info("pod_deletion_started", action="delete Pod", pod_name=name, why=step.reason)
        return pod

    async def _delete(self, kind: Kind, uid: str, grace_period: int, snapshot: Snapshot) -> Unstructured | None:
        """Begin the deletion of this very child: the child as it now is, None where it is gone at once."""
        namespace, name = snapshot.storage.meta.namespace, names.child_name(snapshot.storage.slug)
        try:
            answer = await self._cluster.delete(kind.resource, namespace, name, uid, grace_period, "Foreground")
        except NotFound:
            answer = None
        if answer is None or answer["kind"] != kind.resource.kind:
            self._views.discard(kind.resource, namespace, name, uid)
            return None
        self._views.put(kind.resource, answer)
        return answer

    async def _remove_finalizer(self, snapshot: Snapshot) -> tuple[Snapshot, bool]:
        """Let the object go, once the API server itself says that no pod of it is left: a view may be behind."""
        meta, name = snapshot.storage.meta, names.child_name(snapshot.storage.slug)
        try:
            pod = await self._cluster.get(Kind.POD.resource, meta.namespace, name)
        except NotFound:
            pod = None
        if pod is not None and is_ours(pod, meta.uid):
            self._views.put(Kind.POD.resource, pod)
            if not is_terminating(pod):
                step = DeletePod(
                    pod["metadata"]["uid"], snapshot.storage.lifecycle.termination_grace_period, "found late", requested=True
                )
                pod = await self._delete_pod(step, snapshot)
            return _with_child(snapshot, Kind.POD, pod), False
        patch = release_patch(meta.uid, meta.finalizers)
        try:
            await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, patch)
        except NotFound:
            self._views.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
        log.info("released", action="patch UserStorage")
        return snapshot, True


def _with_child(snapshot: Snapshot, kind: Kind, child: Unstructured | None) -> Snapshot:
    return snapshot.with_children(replace(snapshot.children, **{kind.field: child}))


def _pod(kind: Kind, child: Unstructured) -> dict[str, str]:
    """The field of a log line that only pods have."""
    return {"pod_name": child["metadata"]["name"]} if kind is Kind.POD else {}


def _action(step: Step) -> str:
    """A step in the API's words, for the log."""
    match step:
        case Create(kind):
            return f"create {kind.resource.kind}"
        case Patch(kind):
            return f"patch {kind.resource.kind}"
        case Delete(kind):
            return f"delete {kind.resource.kind}"
        case DeletePod():
            return "delete Pod"
        case _:
            return "patch UserStorage"
