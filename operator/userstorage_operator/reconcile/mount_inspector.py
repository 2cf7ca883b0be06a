"""Looks at what no watch shows: who else mounts a claim, and what the cluster says of mounting it. Each look is a
request, so it is made where the answer decides something and nowhere else; new users in a burst cost none.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import CORE_EVENTS, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.claim_usage import Mount, mount_failure, mounts_of
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot, is_ours
from userstorage_operator.plan import volume_affinity
from userstorage_operator.plan.builders import claim_name
from userstorage_operator.plan.planner import Plan
from userstorage_operator.reconcile.ports import Cluster

log = structlog.get_logger(__name__)

_FOREIGN = f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}"
"""Pods that are not in the views."""


@dataclass(frozen=True, slots=True)
class _EventsRead:
    """What the events of a pod came to, so that a pass soon after need not ask again."""

    pod: str
    at: datetime
    finding: Finding | None


class MountInspector:
    """Makes the looks that a plan calls for."""

    def __init__(self, cluster: Cluster, views: Lister) -> None:
        self._cluster = cluster
        self._views = views
        self._read: dict[Key, _EventsRead] = {}

    async def inspect(self, snapshot: Snapshot, plan: Plan, now: datetime) -> Snapshot:
        """The same world where no look is called for; a stop waits for none. Raises a ClusterError where the pods cannot
        be listed.
        """
        if plan.deletes_pod or snapshot.storage.meta.deleted_at is not None:
            return snapshot
        if (plan.creates_pod and volume_affinity.is_exclusive(snapshot.children.pvc)) or volume_affinity.is_stuck_on_node(
            snapshot
        ):
            mounts = await self._mounts(snapshot)
            return replace(snapshot, claim_context=replace(snapshot.claim_context, mounts=mounts))
        return await self._events(snapshot, now)

    def forget(self, key: Key) -> None:
        """The object is gone, or its pod no longer waits for its volume."""
        self._read.pop(key, None)

    async def _mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        meta = snapshot.storage.meta
        foreign, _ = await self._cluster.list_all(Kind.POD.resource, meta.namespace, _FOREIGN)
        claim = claim_name(snapshot.storage)
        ours = (pod for pod in self._views.pods_on(meta.namespace, claim) if not is_ours(pod, meta.uid))
        return mounts_of(claim, (*foreign, *ours))

    async def _events(self, snapshot: Snapshot, now: datetime) -> Snapshot:
        key, pod = snapshot.storage.meta.key, snapshot.children.pod
        if pod is None or volume_affinity.mounting_since(snapshot) is None:
            self.forget(key)
            return snapshot
        known = self._read.get(key)
        # Where the clock was set back, a read of before would count for as long as that.
        if known is not None and known.pod == pod["metadata"]["uid"] and known.at <= now:
            snapshot = _with_events(snapshot, known)
        due = volume_affinity.events_due(snapshot)
        if due is None or now < due:
            return snapshot
        known = _EventsRead(pod["metadata"]["uid"], now, await self._failure(pod))
        self._read[key] = known
        return _with_events(snapshot, known)

    async def _failure(self, pod: Unstructured) -> Finding | None:
        """None where the events cannot be had: they explain, and decide nothing."""
        meta = pod["metadata"]
        try:
            events, _ = await self._cluster.list_all(CORE_EVENTS, meta["namespace"], fields=f"involvedObject.uid={meta['uid']}")
        except ClusterError as error:
            log.warning("mount_events_failed", pod_name=meta["name"], error_kind=error.reason, error=error.message)
            return None
        return mount_failure(events)


def _with_events(snapshot: Snapshot, read: _EventsRead) -> Snapshot:
    return replace(snapshot, claim_context=replace(snapshot.claim_context, mount_failure=read.finding, events_read_at=read.at))
