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
    """Only in the cluster."""
    extra: tuple[Key, ...]
    """Only in the mirror."""
    differing: tuple[Key, ...]
    """In both but not equal, or in the mirror without a summary."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.differing)


def compare(raws: Iterable[Unstructured], mirrored: Mapping[Key, Unstructured | None]) -> MirrorDiff:
    """Compare the UserStorages of the cluster with the mirror.

    `mirrored` has every key in the mirror's index, with its summary; None if the mirror has no summary for it.
    """
    current = {Key.of(raw): summary(raw) for raw in raws}
    return MirrorDiff(
        _sorted(current.keys() - mirrored.keys()),
        _sorted(mirrored.keys() - current.keys()),
        _sorted(key for key in current.keys() & mirrored.keys() if mirrored[key] != current[key]),
    )


def _sorted(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: (key.namespace, key.name)))
