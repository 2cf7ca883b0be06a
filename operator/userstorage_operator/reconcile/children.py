"""Requests about one existing child that both the steps of a plan and the end of a deletion send."""

from contextlib import suppress

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import Conflict, GrowthRefused, NotFound, Refused
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.snapshot import Snapshot, is_labelled
from userstorage_operator.reconcile.ports import Cluster

log = structlog.get_logger(__name__)


async def patch_child(cluster: Cluster, lister: Lister, kind: Kind, seen: Unstructured, patch: Unstructured) -> Unstructured:
    """Apply the JSON merge patch to the child `seen`, and return the child after it.

    Raises Conflict if the child has changed since, or is gone; GrowthRefused if the API server refuses the size of a claim.
    """
    meta = seen["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    # Without resourceVersion, a later change by another client would be overwritten, or hidden by our response.
    precondition = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
    patch = patch | {"metadata": patch.get("metadata", {}) | precondition}
    try:
        child = await cluster.merge_patch(kind.resource, namespace, name, patch)
    except NotFound as error:
        lister.discard(kind.resource, namespace, name, meta["uid"])
        raise Conflict(error.status, error.message) from error
    except Conflict:
        if not is_labelled(seen):  # no event brings the newer version
            with suppress(NotFound):
                lister.put(kind.resource, await cluster.get(kind.resource, namespace, name))
        raise
    except Refused as error:
        if kind is Kind.PVC and "spec" in patch:
            raise GrowthRefused(error.status, error.message, error.reason, error.retry_after) from error
        raise
    log.info("repaired", action=f"patch {kind.resource.kind}", fields=sorted(patch), **pod_name(kind, child))
    lister.put(kind.resource, child)
    return child


async def with_live_child(cluster: Cluster, kind: Kind, snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with the child as the API server has it."""
    namespace, name = snapshot.storage.meta.namespace, names.child_name(snapshot.storage.slug)
    try:
        child: Unstructured | None = await cluster.get(kind.resource, namespace, name)
    except NotFound:
        child = None
    return snapshot.with_child(kind, child)


def pod_name(kind: Kind, child: Unstructured) -> dict[str, str]:
    """Return the log field `pod_name`; no field if the child is not a pod."""
    return {"pod_name": child["metadata"]["name"]} if kind is Kind.POD else {}
