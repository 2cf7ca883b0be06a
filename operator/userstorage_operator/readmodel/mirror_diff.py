"""How what is kept for other replicas differs from the cluster. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.summary import summary


@dataclass(frozen=True, slots=True)
class MirrorDiff:
    """Names, sorted."""

    missing: tuple[Key, ...]
    """In the cluster only."""
    extra: tuple[Key, ...]
    """Kept only."""
    differing: tuple[Key, ...]
    """In both, but not the same, or with nothing kept but the name."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.differing)


def compare(raws: Iterable[Unstructured], kept: Mapping[Key, Unstructured | None]) -> MirrorDiff:
    """The raw UserStorages of the cluster with the views that are kept of them."""
    there = {Key.of(raw): summary(raw) for raw in raws}
    return MirrorDiff(
        _sorted(there.keys() - kept.keys()),
        _sorted(kept.keys() - there.keys()),
        _sorted(key for key in there.keys() & kept.keys() if kept[key] != there[key]),
    )


def _sorted(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: (key.namespace, key.name)))
