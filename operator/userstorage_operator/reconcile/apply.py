"""Applies a plan, step by step: the only writer of children. The process may be killed before and after every step."""

from collections import deque
from contextlib import suppress
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
from userstorage_operator.api.userstorage import Key, ReclaimPolicy, UserStorage
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.snapshot import Snapshot, controller, controller_uid, is_terminating
from userstorage_operator.plan.builders import owner_reference
from userstorage_operator.plan.diff import with_owner, without_absent
from userstorage_operator.plan.finalizers import has_finalizer, is_held, release_patch, selects
from userstorage_operator.plan.planner import claim_to_collect, refuse_foreign
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
    ReleasePolicy,
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
    """Responses to its writes go into the caches, so that the next reconcile reads its own writes."""

    def __init__(self, cluster: Cluster, lister: Lister, state: LocalState) -> None:
        self._cluster = cluster
        self._lister = lister
        self._state = state
        self._inspector = MountInspector(cluster, lister)

    async def apply(self, plan: Plan, snapshot: Snapshot, now: datetime) -> ApplyResult:
        """Apply the steps of `plan` in order, up to the first failure of one that the others need."""
        result, pending, action = ApplyResult(snapshot, plan), deque(plan.steps), ""
        verified = AddFinalizer() in plan.steps  # which fails for an object that is gone or being deleted
        try:
            while pending:
                step = pending.popleft()
                if _ties_to_owner(step) and not verified:
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
        """Apply a step. The first failure that the other steps tolerate is kept in the result; raises any other."""
        tolerated = OperatorError if is_optional(step) else ConflictingController
        try:
            return replace(result, snapshot=await self._change(step, result.snapshot))
        except tolerated as error:
            return result if result.error is not None else replace(result, error=error, non_blocking=True, action=_action(step))

    async def _change(self, step: Change, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot after one step."""
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
            case ReleasePolicy():
                return await self._release_policy(snapshot)
            case AddFinalizer():
                await self._add_finalizer(snapshot)
                return snapshot

    async def _inspect_mounts(self, step: InspectMounts, result: ApplyResult, now: datetime) -> ApplyResult:
        """List who mounts the claim, and plan the pod with the answer: the plan of the result has the pod's steps only."""
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
            # Not in our cache: a foreign object, or one of ours that the watch has not delivered yet, or no longer selects.
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
        """Restore the labels of a child that lost the one that our watch selects, unless it is being deleted: an object that is
        not watched must not get into the cache, because no event would remove it.
        """
        labels = child["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) == names.MANAGED_BY:
            self._lister.put(kind.resource, child)
        elif not is_terminating(child):
            await self._patch(kind, child, {"metadata": {"labels": body["metadata"]["labels"]}}, snapshot)

    async def _repair(self, kind: Kind, patch: Unstructured, snapshot: Snapshot) -> Unstructured:
        key = snapshot.storage.meta.key
        if kind is not Kind.PVC:  # the owner of a retained claim has to go in a deletion, however often, or the files do
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
        # Without resourceVersion, a change by another writer since would be overwritten unseen, or hidden by our response.
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
        """Raise Conflict unless the API server itself still has the object, before the first child is created for it.

        The cache may be behind, and a child of an object that is gone would be left over. Adding the finalizer verifies it too.
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
        pod = await self._delete(Kind.POD, step.uid, step.grace_period, snapshot, step.resource_version)
        name = names.child_name(snapshot.storage.slug)
        if step.requested:
            self._state.pods.forget(snapshot.storage.meta.key)
        log.info("pod_deletion_started", action="delete Pod", pod_name=name, why=step.reason)
        return pod

    async def _delete(
        self, kind: Kind, uid: str, grace_period: int, snapshot: Snapshot, resource_version: str | None = None
    ) -> Unstructured | None:
        """Start the deletion of the child with that uid. Return it as it is now, or None if it is gone at once."""
        namespace, name = snapshot.storage.meta.namespace, names.child_name(snapshot.storage.slug)
        try:
            answer = await self._cluster.delete(
                kind.resource, namespace, name, uid, grace_period, "Foreground", resource_version
            )
        except NotFound:
            answer = None
        if answer is None or answer["kind"] != kind.resource.kind:
            self._lister.discard(kind.resource, namespace, name, uid)
            return None
        self._lister.put(kind.resource, answer)
        return answer

    async def _remove_finalizer(self, result: ApplyResult) -> ApplyResult:
        """End the deletion, once the API server itself confirms that no pod is left: the cache may be behind.

        The finalizer goes last: a process that is killed before leaves the rest to the next one.
        """
        meta = result.snapshot.storage.meta
        snapshot = await self._reread(Kind.POD, result.snapshot)
        if (left := snapshot.own_pod) is not None:
            self._lister.put(Kind.POD.resource, left)
            if not is_terminating(left):
                step = pod_deletion(snapshot, left, "its UserStorage is being deleted; the cache had missed the pod")
                snapshot = await self._change(step, snapshot)
            return replace(result, snapshot=snapshot)
        policy = snapshot.own(Kind.NETWORK_POLICY)
        if policy is not None and has_finalizer(policy) and snapshot.children.pod is None:
            await self._release(policy)
        collected = claim_to_collect(snapshot) is not None and await self._give_claim_to_garbage_collector(snapshot)
        # A change to Retain that comes after the claim got its owner: the test fails, and the next reconcile removes the owner.
        test: Unstructured = {"op": "test", "path": "/spec/storage/reclaimPolicy", "value": ReclaimPolicy.DELETE.value}
        patch = [*([test] if collected else []), *release_patch(meta.uid, meta.finalizers)]
        try:
            left = (await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, patch))["metadata"].get(
                "finalizers"
            )
        except NotFound:
            left = None
        if not left:  # gone: events of its children must not end the deletion again before the watch reports its end
            self._lister.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
        log.info("released", action="patch UserStorage")
        return replace(result, finalizer_removed=True)

    async def _reread(self, kind: Kind, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with the child as the API server has it."""
        namespace, name = snapshot.storage.meta.namespace, names.child_name(snapshot.storage.slug)
        try:
            child: Unstructured | None = await self._cluster.get(kind.resource, namespace, name)
        except NotFound:
            child = None
        return _with_child(snapshot, kind, child)

    async def _give_claim_to_garbage_collector(self, snapshot: Snapshot) -> bool:
        """Make the UserStorage the owner of its claim, so that the claim is deleted with it; return whether it is the owner.

        Last look at what may have changed since: the spec, and whether the children were orphaned. Raises Conflict if the spec
        asks for Retain by now.
        """
        meta = snapshot.storage.meta
        live = await self._cluster.get(USER_STORAGES, meta.namespace, meta.name)
        if UserStorage.parse(live).storage.reclaim_policy is not ReclaimPolicy.DELETE or live["metadata"]["uid"] != meta.uid:
            self._lister.put(USER_STORAGES, live)
            raise Conflict(409, "spec.storage.reclaimPolicy has changed; the watch has not caught up yet")
        claim = claim_to_collect(await self._reread(Kind.SERVICE, snapshot))
        if claim is None:
            return False
        if controller_uid(claim) != meta.uid:
            await self._patch(Kind.PVC, claim, with_owner(claim, owner_reference(snapshot.storage)), snapshot)
        return True

    async def _release_policy(self, snapshot: Snapshot) -> Snapshot:
        """Remove our finalizer from the NetworkPolicy. Raises Conflict if the API server still has a pod that it selects."""
        policy = snapshot.children.network_policy
        if policy is None:
            return snapshot
        await self._raise_if_selected(policy)
        await self._release(policy)
        return _with_child(snapshot, Kind.NETWORK_POLICY, None)

    async def release_former_policy(self, key: Key) -> None:
        """Release the NetworkPolicy `key` if it is being deleted, and neither its UserStorage nor its pod exists any more."""
        children = self._lister.children(key.namespace, key.name)
        policy = children.network_policy
        if policy is None or not is_held(policy) or children.pod is not None:
            return
        owner = controller(policy)
        storage = self._lister.storage(Key(key.namespace, owner["name"])) if owner is not None else None
        if owner is not None and storage is not None and storage["metadata"]["uid"] == owner["uid"]:
            return  # its own reconcile does it
        await self._raise_if_selected(policy)
        await self._release(policy)

    async def _raise_if_selected(self, policy: Unstructured) -> None:
        meta = policy["metadata"]
        with suppress(NotFound):
            pod = await self._cluster.get(Kind.POD.resource, meta["namespace"], meta["name"])
            if selects(policy, pod):
                raise Conflict(409, f"Pod {meta['name']!r} still exists; its NetworkPolicy is kept")

    async def _release(self, policy: Unstructured) -> None:
        meta = policy["metadata"]
        try:
            patch = release_patch(meta["uid"], meta["finalizers"])
            released = await self._cluster.json_patch(Kind.NETWORK_POLICY.resource, meta["namespace"], meta["name"], patch)
        except NotFound:
            self._lister.discard(Kind.NETWORK_POLICY.resource, meta["namespace"], meta["name"], meta["uid"])
            return
        log.info("released", action="patch NetworkPolicy")
        if is_terminating(released):  # gone now, unless a finalizer of another controller keeps it
            self._lister.discard(Kind.NETWORK_POLICY.resource, meta["namespace"], meta["name"], meta["uid"])
        else:
            self._lister.put(Kind.NETWORK_POLICY.resource, released)


def _with_child(snapshot: Snapshot, kind: Kind, child: Unstructured | None) -> Snapshot:
    return snapshot.with_children(replace(snapshot.children, **{kind.field: child}))


def _ties_to_owner(step: Step) -> bool:
    """Whether the step sets the UserStorage as the owner of a child, which must not be done once its deletion has started: the
    garbage collector may have removed the owner on purpose.
    """
    return isinstance(step, Create) or (isinstance(step, Patch) and "ownerReferences" in step.patch.get("metadata", {}))


def _pod_name(kind: Kind, child: Unstructured) -> dict[str, str]:
    """Return the field of a log line that only pods have."""
    return {"pod_name": child["metadata"]["name"]} if kind is Kind.POD else {}


def _action(step: Step) -> str:
    """Return a step in the API's words, for the log."""
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
        case InspectMounts():
            return "list Pod"
        case InspectMountEvents():
            return "list Event"
        case _:
            return "patch UserStorage"
