"""The difference between the mirror in Redis and the cluster. Pure functions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.summary import summary


@dataclass(frozen=True, slots=True)
class MirrorDiff:
    """The keys of the UserStorages that differ between cluster and mirror, sorted."""

    missing: tuple[Key, ...]
    """UserStorages that are only in the cluster."""
    extra: tuple[Key, ...]
    """UserStorages that are only in the mirror."""
    differing: tuple[Key, ...]
    """UserStorages that are in both, but have another summary in the mirror, or none."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.differing)


def compare(raws: Iterable[Unstructured], mirrored: Mapping[Key, Unstructured | None]) -> MirrorDiff:
    """Return how the mirror differs from `raws`, the UserStorages of the cluster.

    `mirrored` maps every key in the mirror's index to its summary, or to None if the mirror has no summary for it.
    """
    current = {Key.of(raw): summary(raw) for raw in raws}
    return MirrorDiff(
        _sorted(current.keys() - mirrored.keys()),
        _sorted(mirrored.keys() - current.keys()),
        _sorted(key for key in current.keys() & mirrored.keys() if mirrored[key] != current[key]),
    )


def _sorted(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: (key.namespace, key.name)))
