"""Reads two facts that no watch delivers: which other pods mount a claim, and what the Events say about mounting it.

Each costs requests, so it is read only if a plan asks for it. A burst of new users costs no such request. Pods and Events are
listed for all users of a namespace at once, and the lists of Events share a budget.
"""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import CORE_EVENTS, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.claim_usage import MOUNT_REASONS, Mount, mount_failure, mounted_claims, mounts_of
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot, is_labelled, is_ours
from userstorage_operator.plan.child import claim_name
from userstorage_operator.reconcile.ports import Cluster
from userstorage_operator.runtime.detached import detached
from userstorage_operator.runtime.single_flight import SingleFlight

log = structlog.get_logger(__name__)

_UNWATCHED = f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}"
"""Label selector of the pods that no watch delivers: those of other controllers, and our own without their label."""


_FRESH = 2.0
"""Seconds after its start for which a list of pods answers questions. A pod that starts later is missed, as is one that starts between
the list and the creation of the pod: the scheduler then finds another node, and the kubelet reports what mounts the volume.
"""
_LISTS_AT_ONCE = 4
_PERIOD = timedelta(seconds=14)
"""How long a list of Events serves the pods of its namespace; less than the interval at which a pod asks."""
_PAUSE = 0.5
"""Minimum seconds between two readings, of whatever namespaces."""
_SHARE = 20
"""A reading that takes a second is followed by a pause of this many seconds."""
_MOST_EVENTS = 5000
"""Maximum number of Events of one reason that are read: anyone who may write Events in the namespace chooses their number."""
_MOST_PER_POD = 20
_FORGET = timedelta(minutes=2)
"""Time after which a pod that has not asked again no longer waits for its volume."""
_READ_FIELDS = ("reason", "message", "series", "lastTimestamp", "eventTime")
_MESSAGE_MAX = 1024


@dataclass(frozen=True, slots=True)
class MountEvents:
    """The mount failure that the Events of a pod report, and when they were read. Kept for the next reconciles."""

    pod_uid: str
    read_at: datetime
    failure: Finding | None


class MountInspector:
    """Carries out the steps InspectMounts and InspectMountEvents."""

    def __init__(self, cluster: Cluster, lister: Lister) -> None:
        self._lister = lister
        self._pods = _PodLists(cluster)
        self._events = _EventLists(cluster)

    async def mounts(self, snapshot: Snapshot) -> tuple[Mount, ...]:
        """List the pods, other than our own, that mount the claim. Raises ClusterError if the pods cannot be listed."""
        meta, claim = snapshot.storage.meta, claim_name(snapshot.storage)
        listed = await self._pods.mounting(meta.namespace, claim)
        watched = filter(is_labelled, self._lister.pods_on(meta.namespace, claim))
        return mounts_of(claim, (pod for pod in (*listed, *watched) if not is_ours(pod, meta.uid)))

    async def events(self, pod: Unstructured, now: datetime) -> MountEvents:
        """Return what the Events of the pod report, as last read. If they cannot be read, the result has no failure: no decision
        depends on it.
        """
        meta = pod["metadata"]
        return MountEvents(meta["uid"], now, await self._events.failure(meta["namespace"], meta["uid"], now))


_PodsByClaim = dict[str, list[Unstructured]]
"""Name of a claim -> the pods that mount it."""


class _Listing:
    """A list of the pods of one namespace, under way or ended."""

    def __init__(self, work: "Callable[[_Listing], Coroutine[Any, Any, _PodsByClaim]]") -> None:
        self.started = math.inf
        """By the monotonic clock; infinite while it waits for its turn."""
        self.pods = detached(partial(work, self))


class _PodLists:
    """Lists the pods that no watch delivers, for all questions about a namespace within a few seconds.

    A namespace has one list at a time, and the operator few, however many users ask: a list holds a page of whole pods.
    """

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lists: dict[str, _Listing] = {}
        """Namespace -> its last list, until that is out of date."""
        self._turns = asyncio.Semaphore(_LISTS_AT_ONCE)

    async def mounting(self, namespace: str, claim: str) -> tuple[Unstructured, ...]:
        """Return what `mounts_of` reads of the pods that mount the claim. Raises ClusterError if the pods cannot be listed."""
        listing = self._lists.get(namespace)
        if listing is None or self._clock() - listing.started > _FRESH:
            listing = self._start(namespace, listing)
        return tuple((await asyncio.shield(listing.pods)).get(claim, ()))

    def _start(self, namespace: str, previous: _Listing | None) -> _Listing:
        listing = self._lists[namespace] = _Listing(partial(self._list, namespace, previous))
        listing.pods.add_done_callback(partial(self._ended, namespace, listing))
        return listing

    async def _list(self, namespace: str, previous: _Listing | None, listing: _Listing) -> _PodsByClaim:
        if previous is not None:
            await asyncio.wait([previous.pods])
        found: _PodsByClaim = {}
        async with self._turns:
            listing.started = self._clock()
            async for page in self._cluster.pages(Kind.POD.resource, namespace, _UNWATCHED):
                for pod in page:
                    for claim in mounted_claims(pod):
                        found.setdefault(claim, []).append(_brief_pod(pod))
        return found

    def _ended(self, namespace: str, listing: _Listing, pods: asyncio.Future[_PodsByClaim]) -> None:
        failed = pods.cancelled() or pods.exception() is not None
        left = 0.0 if failed else max(0.0, listing.started + _FRESH - self._clock())
        asyncio.get_running_loop().call_later(left, self._forget, namespace, listing)

    def _forget(self, namespace: str, listing: _Listing) -> None:
        if self._lists.get(namespace) is listing:
            del self._lists[namespace]


def _brief_pod(pod: Unstructured) -> Unstructured:
    """Return the part of a pod that `mounts_of` and `is_ours` read."""
    meta, spec = pod["metadata"], pod["spec"]
    return {
        "metadata": {"name": meta["name"], "ownerReferences": meta.get("ownerReferences")},
        "spec": {
            "nodeName": spec.get("nodeName"),
            "volumes": [{"persistentVolumeClaim": {"claimName": name}} for name in mounted_claims(pod)],
        },
        "status": {"phase": pod.get("status", {}).get("phase")},
    }


@dataclass(slots=True)
class _Reading:
    """The pods of one namespace that wait for their volumes, and what was last read about them."""

    asked_at: dict[str, datetime] = field(default_factory=dict)
    """uid of a pod -> when its Events were last asked for."""
    failures: dict[str, Finding] = field(default_factory=dict)
    """uid of a pod -> its mount failure."""
    read_at: datetime | None = None
    turn: float = 0.0
    """When the next reading may start, by the monotonic clock."""


class _EventLists:
    """Reads the Events about mounts, one namespace after the other, with pauses: the number of pods that ask costs no request."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._readings: dict[str, _Reading] = {}
        self._flights: SingleFlight[str, None] = SingleFlight()
        self._next_turn = 0.0

    async def failure(self, namespace: str, uid: str, now: datetime) -> Finding | None:
        """Return the mount failure of the pod. Waits for a reading only if that reading is this namespace's turn now."""
        reading = self._readings.setdefault(namespace, _Reading())
        reading.asked_at[uid] = now
        if reading.read_at is None or not now - _PERIOD < reading.read_at <= now:
            flight = self._flights.start(namespace, partial(self._read_in_turn, namespace, now))
            await asyncio.sleep(0)  # the flight reserves its turn
            if reading.turn <= self._clock():
                await asyncio.shield(flight)
        return reading.failures.get(uid)

    async def _read_in_turn(self, namespace: str, now: datetime) -> None:
        reading = self._readings[namespace]
        reading.turn = max(self._clock(), self._next_turn)
        self._next_turn = reading.turn + _PAUSE
        await asyncio.sleep(reading.turn - self._clock())
        started = self._clock()
        reading.asked_at = {uid: at for uid, at in reading.asked_at.items() if now - _FORGET < at}
        try:
            reading.failures = await self._read(namespace, reading)
        except ClusterError as error:
            log.warning(
                "mount_events_failed", resource=CORE_EVENTS.within(namespace), error_kind=error.reason, error=error.message
            )
        reading.read_at = now
        self._next_turn = max(self._next_turn, self._clock() + _SHARE * (self._clock() - started))
        for other in [name for name, known in self._readings.items() if not _is_used(known, now)]:
            del self._readings[other]

    async def _read(self, namespace: str, reading: _Reading) -> dict[str, Finding]:
        events: dict[str, list[Unstructured]] = {}
        for reason in MOUNT_REASONS:
            count = 0
            async for page in self._cluster.pages(CORE_EVENTS, namespace, fields=f"reason={reason},involvedObject.kind=Pod"):
                for event in page:
                    uid = event["involvedObject"].get("uid")
                    if uid in reading.asked_at and len(events.setdefault(uid, [])) < _MOST_PER_POD:
                        events[uid].append(_brief(event))
                count += len(page)
                if count >= _MOST_EVENTS:
                    break
        found = {uid: mount_failure(of_pod) for uid, of_pod in events.items()}
        return {uid: failure for uid, failure in found.items() if failure is not None}


def _is_used(reading: _Reading, now: datetime) -> bool:
    return any(now - _FORGET < at for at in reading.asked_at.values())


def _brief(event: Unstructured) -> Unstructured:
    """Return the part of an Event that `mount_failure` reads, with a message of bounded length."""
    kept: Unstructured = {name: event.get(name) for name in _READ_FIELDS}
    kept["message"] = str(event.get("message") or "")[:_MESSAGE_MAX]
    return kept | {"metadata": {"creationTimestamp": event["metadata"].get("creationTimestamp")}}
