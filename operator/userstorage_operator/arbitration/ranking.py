"""UserStorages in line for what only one of them can have: the next is found without looking at all."""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

IndexKey = tuple[str, str]
"""Namespace, and what is wanted in it."""
Rank = tuple[str | bool, ...]
"""The lowest comes first. It ends with the uid, so no two are alike."""


@dataclass(slots=True)
class _Line:
    order: list[tuple[Rank, str]] = field(default_factory=list)
    rank_of: dict[str, Rank] = field(default_factory=dict)
    name_of: dict[str, str] = field(default_factory=dict)
    """By uid."""


class RankedIndex:
    """Coming and going are O(log n) and a move of memory."""

    def __init__(self) -> None:
        self._lines: dict[IndexKey, _Line] = {}

    def update(self, place: IndexKey, name: str, rank: Rank | None) -> Rank | None:
        """Take in how `name` ranks now, None for not at all: how it did before."""
        line = self._lines.setdefault(place, _Line())
        before = line.rank_of.get(name)
        if before is not None and before != rank:
            del line.order[bisect_left(line.order, (before, name))]
            del line.rank_of[name], line.name_of[str(before[-1])]
        if rank is not None and before != rank:
            insort(line.order, (rank, name))
            line.rank_of[name], line.name_of[str(rank[-1])] = rank, name
        if not line.order:
            del self._lines[place]
        return before

    def first(self, place: IndexKey, preferred: frozenset[str] = frozenset()) -> str | None:
        """The name of the first of those with one of the uids `preferred`, where there are any; else of all."""
        line = self._lines.get(place)
        if line is None:
            return None
        names = [line.name_of[uid] for uid in preferred if uid in line.name_of]
        return min(names, key=line.rank_of.__getitem__) if names else line.order[0][1]

    def named(self, place: IndexKey, uid: str | None) -> str | None:
        """The name of the one with that uid, where it stands in this line."""
        line = self._lines.get(place)
        return line.name_of.get(uid) if line is not None and uid is not None else None

    def names(self, place: IndexKey) -> list[str]:
        """All of them, the first in front."""
        line = self._lines.get(place)
        return [name for _, name in line.order] if line is not None else []

    def after(self, place: IndexKey, name: str) -> list[str]:
        """Those behind `name`, which stands in this line."""
        line = self._lines[place]
        return [other for _, other in line.order[bisect_right(line.order, (line.rank_of[name], name)) :]]
