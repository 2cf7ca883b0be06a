"""The third verb: carry out a plan, step by step. Every step is safe to be cut off before and after."""

from dataclasses import dataclass, replace

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import AlreadyExists, Conflict, Contested, GrowthRefused, NotFound, OperatorError, Refused
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Object
from userstorage_operator.arbitration.lister import Views
from userstorage_operator.observed.snapshot import World, is_ours, is_terminating
from userstorage_operator.plan.diff import without_absent
from userstorage_operator.plan.finalizers import release_patch
from userstorage_operator.plan.planner import (
    AddFinalizer,
    Change,
    Create,
    DeletePod,
    Patch,
    Plan,
    ReleaseFinalizer,
    Remove,
    Step,
    keeps_nobody_from_the_files,
    refuse_foreign,
)
from userstorage_operator.reconcile.pod_starts import PodStartBook
from userstorage_operator.reconcile.ports import Cluster
from userstorage_operator.reconcile.repairs import RepairBook

log = structlog.get_logger(__name__)

_Failed = tuple[OperatorError, str]
"""With what was being done."""


@dataclass(frozen=True, slots=True)
class Acted:
    """The world after the steps that went well, and the error of the one that did not."""

    world: World
    error: OperatorError | None = None
    soft: bool = False
    """The error kept no other step from being done."""
    released: bool = False
    """The finalizer is off: there may be no object left to tell about."""
    action: str = ""
    """What failed, as the log names it; empty where nothing did, or nothing was tried."""


class Actor:
    """Writes to the cluster, and nothing else does. Answers go into the views, so the next pass reads its own writes."""

    def __init__(self, cluster: Cluster, views: Views, starts: PodStartBook, repairs: RepairBook) -> None:
        self._cluster = cluster
        self._views = views
        self._starts = starts
        self._repairs = repairs

    async def run(self, plan: Plan, world: World) -> Acted:
        """Carry out the steps of `plan` in order, up to the first failure of one that the others need."""
        released, failed, action = False, None, f"get {names.KIND}"
        try:
            if any(isinstance(step, Create) for step in plan.steps) and AddFinalizer() not in plan.steps:
                await self._make_sure_it_lives(world)
            for step in plan.steps:
                action = _action(step)
                if isinstance(step, ReleaseFinalizer):
                    world, released = await self._release(world)
                else:
                    world, failed = await self._try(step, world, failed)
        except OperatorError as error:
            return Acted(world, error, action=action)
        soft, action = failed or (None, "")
        return Acted(world, soft, soft=soft is not None, released=released, action=action)

    async def _try(self, step: Change, world: World, failed: _Failed | None) -> tuple[World, _Failed | None]:
        """The world after the step, and the first failure of all that the others do not need. Raises those of steps that they do."""
        tolerated = OperatorError if keeps_nobody_from_the_files(step) else Contested
        try:
            return await self._step(step, world), failed
        except tolerated as error:
            return world, failed or (error, _action(step))

    async def _step(self, step: Change, world: World) -> World:
        """The world after one step."""
        match step:
            case Create(kind, body):
                return _with_child(world, kind, await self._create(kind, body, world))
            case Patch(kind, patch):
                return _with_child(world, kind, await self._put_right(kind, patch, world))
            case Remove(kind, uid):
                world = _with_child(world, kind, await self._delete(kind, uid, 0, world))
                log.info("removed", action=f"delete {kind.resource.kind}")
                return world
            case DeletePod():
                return _with_child(world, Kind.POD, await self._delete_pod(step, world))
            case AddFinalizer():
                await self._add_finalizer(world)
                return world

    async def _add_finalizer(self, world: World) -> None:
        meta = world.storage.meta
        where, what = (
            ("/metadata/finalizers/-", names.FINALIZER) if meta.finalizers else ("/metadata/finalizers", [names.FINALIZER])
        )
        add: Object = {"op": "add", "path": where, "value": what}
        # The test keeps us from adding it to an object whose deletion has begun, or to a namesake.
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}
        patched = await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, [version, add])
        self._views.put(USER_STORAGES, patched)

    async def _create(self, kind: Kind, body: Object, world: World) -> Object:
        namespace, name = world.storage.meta.namespace, body["metadata"]["name"]
        refuse_foreign(kind, getattr(world.children, kind.field), world)
        try:
            child = await self._cluster.create(kind.resource, namespace, without_absent(body))
        except AlreadyExists as error:
            # Not in our view: a stranger, or one of ours that the watch has not brought yet, or has lost sight of.
            child = await self._cluster.get(kind.resource, namespace, name)
            refuse_foreign(kind, child, world)
            await self._bring_into_view(kind, child, body, world)
            raise Conflict(error.status, f"{kind.resource.kind} {name!r} was there already") from error
        if kind is Kind.POD:
            self._starts.made(world.storage.meta.key)
        log.info("created", action=f"create {kind.resource.kind}", **_pod(kind, child))
        self._views.put(kind.resource, child)
        return child

    async def _bring_into_view(self, kind: Kind, child: Object, body: Object, world: World) -> None:
        """Give a child that lost the label by which we watch its labels back. One that is ending is left to end: what
        is not watched must not get into the view, for nothing would tell when it goes.
        """
        labels = child["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY:
            self._views.put(kind.resource, child)
        elif not is_terminating(child):
            await self._patch(kind, child, {"metadata": {"labels": body["metadata"]["labels"]}}, world)

    async def _put_right(self, kind: Kind, patch: Object, world: World) -> Object:
        key = world.storage.meta.key
        if kind is not Kind.CLAIM:  # at the end its owner has to go, however often, or the files do
            self._repairs.refuse_contested(key, kind)
        # The child as the plan saw it, or as an earlier step left it.
        child = await self._patch(kind, getattr(world.children, kind.field), patch, world)
        self._repairs.made(key, kind)
        return child

    async def _patch(self, kind: Kind, seen: Object, patch: Object, world: World) -> Object:
        namespace, meta = world.storage.meta.namespace, seen["metadata"]
        # With the version: a change by others since would be overwritten unseen, or hidden by the answer to ours.
        precondition = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        patch = patch | {"metadata": patch.get("metadata", {}) | precondition}
        try:
            child = await self._cluster.merge_patch(kind.resource, namespace, meta["name"], patch)
        except NotFound as error:
            self._views.discard(kind.resource, namespace, meta["name"], meta["uid"])
            raise Conflict(error.status, error.message) from error
        except Refused as error:
            if kind is Kind.CLAIM and "spec" in patch:
                raise GrowthRefused(error.status, error.message, error.reason, error.retry_after) from error
            raise
        log.info("repaired", action=f"patch {kind.resource.kind}", fields=sorted(patch), **_pod(kind, child))
        self._views.put(kind.resource, child)
        return child

    async def _make_sure_it_lives(self, world: World) -> None:
        """Ask the API server itself before anything is made for an object: the view may be behind, and a child made for
        an object that is going, or gone, would be left over. Setting the finalizer is such a question too.
        """
        meta = world.storage.meta
        try:
            live = await self._cluster.get(USER_STORAGES, meta.namespace, meta.name)
        except NotFound as error:
            self._views.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
            raise Conflict(error.status, error.message) from error
        if live["metadata"]["uid"] != meta.uid or is_terminating(live):
            self._views.put(USER_STORAGES, live)
            raise Conflict(409, "the UserStorage is going, which the watch has not told yet")

    async def _delete_pod(self, step: DeletePod, world: World) -> Object | None:
        pod = await self._delete(Kind.POD, step.uid, step.grace_period, world)
        name = names.child_name(world.storage.slug)
        if step.asked_for:
            self._starts.forget(world.storage.meta.key)
        log.info("pod_deletion_begun", action="delete Pod", pod_name=name, why=step.why)
        return pod

    async def _delete(self, kind: Kind, uid: str, grace_period: int, world: World) -> Object | None:
        """Begin the deletion of this very child: the child as it now is, None where it is gone at once."""
        namespace, name = world.storage.meta.namespace, names.child_name(world.storage.slug)
        try:
            answer = await self._cluster.delete(kind.resource, namespace, name, uid, grace_period, "Foreground")
        except NotFound:
            answer = None
        if answer is None or answer["kind"] != kind.resource.kind:
            self._views.discard(kind.resource, namespace, name, uid)
            return None
        self._views.put(kind.resource, answer)
        return answer

    async def _release(self, world: World) -> tuple[World, bool]:
        """Let the object go, once the API server itself says that no pod of it is left: a view may be behind."""
        meta, name = world.storage.meta, names.child_name(world.storage.slug)
        try:
            pod = await self._cluster.get(Kind.POD.resource, meta.namespace, name)
        except NotFound:
            pod = None
        if pod is not None and is_ours(pod, meta.uid):
            self._views.put(Kind.POD.resource, pod)
            if not is_terminating(pod):
                step = DeletePod(
                    pod["metadata"]["uid"], world.storage.lifecycle.termination_grace_period, "found late", asked_for=True
                )
                pod = await self._delete_pod(step, world)
            return _with_child(world, Kind.POD, pod), False
        patch = release_patch(meta.uid, meta.finalizers)
        try:
            await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, patch)
        except NotFound:
            self._views.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
        log.info("released", action="patch UserStorage")
        return world, True


def _with_child(world: World, kind: Kind, child: Object | None) -> World:
    return world.with_children(replace(world.children, **{kind.field: child}))


def _pod(kind: Kind, child: Object) -> dict[str, str]:
    """The field of a log line that only pods have."""
    return {"pod_name": child["metadata"]["name"]} if kind is Kind.POD else {}


def _action(step: Step) -> str:
    """A step in the API's words, for the log."""
    match step:
        case Create(kind):
            return f"create {kind.resource.kind}"
        case Patch(kind):
            return f"patch {kind.resource.kind}"
        case Remove(kind):
            return f"delete {kind.resource.kind}"
        case DeletePod():
            return "delete Pod"
        case _:
            return "patch UserStorage"
