"""How what is kept for other replicas differs from the cluster. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from userstorage_operator.api.unstructured import Object
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.summary import view


@dataclass(frozen=True, slots=True)
class Drift:
    """Names, sorted."""

    missing: tuple[Key, ...]
    """In the cluster only."""
    extra: tuple[Key, ...]
    """Kept only."""
    differing: tuple[Key, ...]
    """In both, but not the same, or with nothing kept but the name."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.differing)


def compare(raws: Iterable[Object], kept: Mapping[Key, Object | None]) -> Drift:
    """The raw UserStorages of the cluster with the views that are kept of them."""
    there = {Key.of(raw): view(raw) for raw in raws}
    return Drift(
        _sorted(there.keys() - kept.keys()),
        _sorted(kept.keys() - there.keys()),
        _sorted(key for key in there.keys() & kept.keys() if kept[key] != there[key]),
    )


def _sorted(keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted(keys, key=lambda key: (key.namespace, key.name)))
