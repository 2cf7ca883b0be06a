"""What one process remembers of its own doing, because the watches show it late. All of it is lost with the process, and
nothing depends on that: after a start the objects themselves tell.
"""

from dataclasses import dataclass

from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.reconcile.pod_starts import PodStartBook
from userstorage_operator.reconcile.repairs import RepairBook
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache


@dataclass(frozen=True, slots=True)
class Books:
    """Kept by the reconciler and its actor, read by the observer."""

    starts: PodStartBook
    repairs: RepairBook
    claims: Reservations
    places: Reservations
    volumes: VolumeStatsCache | None
    """None where nobody asks kubelets."""

    def forget(self, key: Key) -> None:
        """The UserStorage is gone."""
        self.starts.forget(key)
        self.repairs.forget(key)
        self.claims.release(key)
        self.places.release(key)
