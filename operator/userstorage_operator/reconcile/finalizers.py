"""Writes our finalizers: on a UserStorage before its first child, and off again once its pod is gone, with what ends a deletion.

The same finalizer keeps a NetworkPolicy as long as its pod exists (docs/semantics.md#deletion).
"""

from contextlib import suppress

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import Conflict, NotFound
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key, ReclaimPolicy, UserStorage
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.snapshot import (
    Snapshot,
    controller,
    controller_uid,
    is_labelled,
    is_owned_by_a_user_storage,
    is_terminating,
)
from userstorage_operator.plan.child import owner_reference
from userstorage_operator.plan.diff import LABEL_PATCH, with_owner
from userstorage_operator.plan.finalizers import has_finalizer, is_held, is_unwatched, protects, release_patch
from userstorage_operator.plan.planner import claim_to_collect
from userstorage_operator.reconcile.children import patch_child, with_live_child
from userstorage_operator.reconcile.ports import Cluster

log = structlog.get_logger(__name__)


class Finalizers:
    """Adds and removes our finalizers. The API server's responses go into the caches."""

    def __init__(self, cluster: Cluster, lister: Lister) -> None:
        self._cluster = cluster
        self._lister = lister

    async def add(self, snapshot: Snapshot) -> None:
        """Add our finalizer to the UserStorage. Raises Conflict if the UserStorage has changed since it was cached."""
        meta = snapshot.storage.meta
        path, value = (
            ("/metadata/finalizers/-", names.FINALIZER) if meta.finalizers else ("/metadata/finalizers", [names.FINALIZER])
        )
        add: Unstructured = {"op": "add", "path": path, "value": value}
        # Without the test, the finalizer could reach an object whose deletion has started, or another object of that name.
        test: Unstructured = {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}
        patched = await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, [test, add])
        self._lister.put(USER_STORAGES, patched)

    async def remove(self, snapshot: Snapshot) -> None:
        """End the deletion of a UserStorage without a pod: release its NetworkPolicy, give its claim to the garbage collector if
        the spec says Delete, and remove our finalizer.

        The finalizer goes last: a process that is killed before leaves the rest to the next one.
        """
        meta = snapshot.storage.meta
        policy = snapshot.own(Kind.NETWORK_POLICY)
        if policy is not None and has_finalizer(policy) and snapshot.children.pod is None:
            await self.release(policy)
        collected = claim_to_collect(snapshot) is not None and await self._give_claim_to_garbage_collector(snapshot)
        # A change to Retain that comes after the claim got its owner: the test fails, and the next reconcile removes the owner.
        test: Unstructured = {"op": "test", "path": "/spec/storage/reclaimPolicy", "value": ReclaimPolicy.DELETE.value}
        patch = [*([test] if collected else []), *release_patch(meta.uid, meta.finalizers)]
        patched: Unstructured = {"metadata": {}}
        with suppress(NotFound):
            patched = await self._cluster.json_patch(USER_STORAGES, meta.namespace, meta.name, patch)
        # Events of its children must not end the deletion again before the watch reports this.
        if patched["metadata"].get("finalizers"):
            self._lister.put(USER_STORAGES, patched)
        else:  # gone
            self._lister.discard(USER_STORAGES, meta.namespace, meta.name, meta.uid)
        log.info("released", action="patch UserStorage")

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
        claim = claim_to_collect(await with_live_child(self._cluster, Kind.SERVICE, snapshot))
        if claim is None:
            return False
        if controller_uid(claim) != meta.uid:
            patch = with_owner(claim, owner_reference(snapshot.storage))
            await patch_child(self._cluster, self._lister, Kind.PVC, claim, patch)
        return True

    async def release_unless_selected(self, policy: Unstructured) -> Unstructured | None:
        """Remove our finalizer from the NetworkPolicy. Return what is left of it; None if it is gone. Raises Conflict if the API
        server still has a pod that it protects.
        """
        meta = policy["metadata"]
        with suppress(NotFound):
            pod = await self._cluster.get(Kind.POD.resource, meta["namespace"], meta["name"])
            if protects(policy, pod):
                raise Conflict(409, f"Pod {meta['name']!r} still exists; its NetworkPolicy is kept")
        return await self.release(policy)

    async def release_former_policy(self, key: Key) -> None:
        """Release the NetworkPolicy `key` if it is being deleted, and neither its UserStorage nor its pod exists any more.

        One that has lost its label gets it again, so that the watch shows when it is deleted.
        """
        children = self._lister.children(key.namespace, key.name)
        policy = children.network_policy
        if policy is None or not has_finalizer(policy):
            return
        owner = controller(policy)
        storage = self._lister.storage(Key(key.namespace, owner["name"])) if owner is not None else None
        if owner is not None and storage is not None and storage["metadata"]["uid"] == owner["uid"]:
            return  # its own reconcile does it
        if is_unwatched(policy) and (owner is None or is_owned_by_a_user_storage(policy)):
            policy = await patch_child(self._cluster, self._lister, Kind.NETWORK_POLICY, policy, LABEL_PATCH)
        # No watch reports the end of a pod without our label: the API server is asked again after each pause.
        if is_held(policy) and (children.pod is None or not is_labelled(children.pod)):
            await self.release_unless_selected(policy)

    async def release(self, policy: Unstructured) -> Unstructured | None:
        """Remove our finalizer from the NetworkPolicy. Return what is left of it; None if it is gone."""
        meta = policy["metadata"]
        try:
            patch = release_patch(meta["uid"], meta["finalizers"])
            released = await self._cluster.json_patch(Kind.NETWORK_POLICY.resource, meta["namespace"], meta["name"], patch)
        except NotFound:
            self._lister.discard(Kind.NETWORK_POLICY.resource, meta["namespace"], meta["name"], meta["uid"])
            return None
        log.info("released", action="patch NetworkPolicy")
        if is_terminating(released) and not released["metadata"].get("finalizers"):  # the API server has removed it
            self._lister.discard(Kind.NETWORK_POLICY.resource, meta["namespace"], meta["name"], meta["uid"])
            return None
        self._lister.put(Kind.NETWORK_POLICY.resource, released)
        return released
