"""Reads two facts that no watch delivers: which other pods mount a claim, and what the Events say about mounting it.

Each costs a request, so it is read only if a plan asks for it. A burst of new users costs no such request.
"""

from dataclasses import dataclass
from datetime import datetime

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import CORE_EVENTS, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.claim_usage import Mount, mount_failure, mounts_of
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot, is_labelled, is_ours
from userstorage_operator.plan.builders import claim_name
from userstorage_operator.reconcile.ports import Cluster

log = structlog.get_logger(__name__)

_UNWATCHED = f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}"
"""Label selector of the pods that no watch delivers: those of other controllers, and our own without their label."""


@dataclass(frozen=True, slots=True)
class MountEvents:
    """The mount failure that the Events of a pod report, and when they were read. Kept for the next reconciles."""

    pod_uid: str
    read_at: datetime
    failure: Finding | None


class MountInspector:
    """Carries out the steps InspectMounts and InspectMountEvents."""

    def __init__(self, cluster: Cluster, lister: Lister) -> None:
        self._cluster = cluster
        self._lister = lister

    async def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """List the pods, other than our own, that mount the claim. Raises ClusterError if the pods cannot be listed."""
        meta = snapshot.storage.meta
        listed, _ = await self._cluster.list_all(Kind.POD.resource, meta.namespace, _UNWATCHED)
        claim = claim_name(snapshot.storage)
        watched = filter(is_labelled, self._lister.pods_on(meta.namespace, claim))
        return mounts_of(claim, (pod for pod in (*listed, *watched) if not is_ours(pod, meta.uid)))

    async def events(self, pod: Unstructured, now: datetime) -> MountEvents:
        """Read the Events of the pod. If they cannot be read, the result has no failure: no decision depends on it."""
        meta = pod["metadata"]
        try:
            events, _ = await self._cluster.list_all(CORE_EVENTS, meta["namespace"], fields=f"involvedObject.uid={meta['uid']}")
        except ClusterError as error:
            log.warning("mount_events_failed", pod_name=meta["name"], error_kind=error.reason, error=error.message)
            return MountEvents(meta["uid"], now, None)
        return MountEvents(meta["uid"], now, mount_failure(events))
