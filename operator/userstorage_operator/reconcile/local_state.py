"""What one process remembers of its own writes, because the caches show them late.

It is lost with the process, and nothing depends on it: after a restart the objects themselves show what was done.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from userstorage_operator.api.resources import Kind
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.reservations import Reservations
from userstorage_operator.reconcile.backoff import Backoff
from userstorage_operator.reconcile.mount_inspector import MountEvents
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache


class Target(NamedTuple):
    """What writes of a child are counted by."""

    key: Key
    kind: Kind
    growth: bool = False
    """Whether the write expands a claim, which repairs of its metadata must not delay."""


TARGETS = (*((kind, False) for kind in Kind), (Kind.PVC, True))
"""The kinds and growths of all targets of one UserStorage."""


@dataclass(frozen=True, slots=True)
class LocalState:
    """Written by the reconciler and the applier, read by `observe`."""

    pods: Backoff[Key]
    """Creations of pods."""
    writes: Backoff[Target]
    """Writes of children, of pods only repairs. The first one for a goal has no pause; each further one is a repair."""
    claims: Reservations
    """Claims that a pod is about to mount."""
    quota: Reservations
    """Places of `limits.maxPerNamespace`, by the name of the class."""
    volumes: VolumeStatsCache | None
    """None if kubelets are not asked."""
    mount_events: dict[Key, MountEvents] = field(default_factory=dict)
    """What was last read of the events of a pod that waits for its volume."""

    def forget(self, key: Key) -> None:
        """Forget a UserStorage that is gone."""
        self.pods.forget(key)
        for kind, growth in TARGETS:
            self.writes.forget(Target(key, kind, growth))
        self.claims.release(key)
        self.quota.release(key)
        self.mount_events.pop(key, None)
