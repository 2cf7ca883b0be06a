"""What this process keeps in memory between reconciles: backoffs, reservations, and facts that no watch delivers.

This memory is lost with the process. That is safe: after a restart the objects in the cluster show what was done.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from userstorage_operator.api.userstorage import Key, Metadata
from userstorage_operator.arbitration.claim import ClaimReservations
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.reconcile.backoff import Backoff
from userstorage_operator.reconcile.missing_claims import MissingClaims
from userstorage_operator.reconcile.mount_inspector import MountEvents
from userstorage_operator.reconcile.repairs import Repairs
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache


@dataclass(frozen=True, slots=True)
class LocalState:
    """State that all reconciles of this process share."""

    pods: Backoff[Key]
    """Backoff of pod creations."""
    repairs: Repairs
    """Pauses between the repairs of children and of our finalizer."""
    claims: ClaimReservations
    """Reservations of claims and their directories, each for a pod that is about to be created."""
    volumes: VolumeStatsCache | None
    """Measured usage of volumes; None if the operator does not query kubelets."""
    missing_claims: MissingClaims
    remounts: dict[Key, int] = field(default_factory=dict)
    """UserStorage -> how many pods were replaced in a row because they could not read their volume."""
    mount_events: dict[Key, MountEvents] = field(default_factory=dict)
    """UserStorage -> result of the last reading of the Events about its pod, which waits for its volume."""

    held_since: dict[Key, tuple[int, datetime]] = field(default_factory=dict)
    """UserStorage whose pod waits for its claim -> generation, and since when it waits."""

    uids: dict[Key, str] = field(default_factory=dict)
    """UserStorage -> the uid that the rest of this state is about."""

    @classmethod
    def new(cls, clock: Callable[[], datetime], lister: Lister, volumes: VolumeStatsCache | None = None) -> "LocalState":
        """Return the state of a process that has just started."""
        return cls(Backoff(clock), Repairs(clock), ClaimReservations(lister), volumes, MissingClaims(clock))

    def identify(self, key: Key, uid: str) -> None:
        """Remove the state of a former UserStorage of that name: it was deleted and created again within one reconcile."""
        if self.uids.setdefault(key, uid) != uid:
            self.forget(key)
            self.uids[key] = uid

    def record_hold(self, meta: Metadata, hold: str | None, now: datetime) -> None:
        """Record whether a plan at `now` creates no pod because of the claim, for the pauses between two looks at the claim."""
        if hold != "StorageNotReady":
            self.held_since.pop(meta.key, None)
        elif self.held_since.get(meta.key, (None, now))[0] != meta.generation:
            self.held_since[meta.key] = (meta.generation, now)

    def forget(self, key: Key) -> None:
        """Remove the state of a UserStorage that is gone."""
        self.pods.forget(key)
        self.repairs.forget(key)
        self.claims.release(key)
        self.remounts.pop(key, None)
        self.mount_events.pop(key, None)
        self.held_since.pop(key, None)
        self.uids.pop(key, None)
