"""Which UserStorage owns a host name with a URL path and all paths below it.

Two places, each a host with a path, overlap if the hosts are equal and one path is a prefix of the other: `/` overlaps with every
path of its host, `/u/alice/` does not overlap with `/u/bob/`. A UserStorage owns the place that its class gives to it unless an
owner of an overlapping place precedes it. The first is the one whose Ingress or HTTPRoute has its place already, then one that
has an Ingress or HTTPRoute with that place although its class gives it none or another, then one that another place of the host
leads to, which keeps the host while its class changes, then the oldest.

So a place is claimed as long as an Ingress or HTTPRoute has it: that of a paused UserStorage, or of one whose pod waits for its
replacement, may stay for long. A former place that overlaps with the new one of the same UserStorage is left out. One that comes
from an edit takes nothing from a UserStorage that is served where its class wants it.

One that waits holds up no other: without that, a tenant who wants `/` of a host, and does not get it, would keep every later
user from the paths of that host.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from userstorage_operator.api import names
from userstorage_operator.api.resources import EXPOSURE
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.api.userstorageclass import Expose, UserStorageClass
from userstorage_operator.api.variables import PATH_MAX
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.arbitration.ranking import Rank, RankedIndex
from userstorage_operator.arbitration.user_id import UserIDIndex, own_child
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.plan.exposure import HostPath, served_host, wanted_host


def conflict(raw: Unstructured, cls: UserStorageClass, lister: Lister) -> Finding | None:
    """Return HostConflict if another UserStorage owns a place that overlaps with that which the class gives to `raw`; else None."""
    if cls.exposure.expose is Expose.CLUSTER_IP:
        return None
    place = wanted_host(raw, lister.classes())
    if place is None or not lister.host_taken(Key.of(raw)):
        return None
    # The message does not name the owner: it may be another tenant, whose name and namespace must not be disclosed.
    return Finding(
        "HostConflict",
        f"another UserStorage has the host {place.host!r} with the path {place.path!r}, or with a path that contains it or lies below it",
    )


@dataclass(frozen=True, slots=True)
class _Claim:
    """A place that a UserStorage wants or is served at, and its rank."""

    place: HostPath
    rank: Rank


class HostIndex:
    """Index of the UserStorages that want each place, and which of them own theirs.

    An update takes O(log n) for each element of the path, and as much again for each UserStorage that gets or loses its place.
    Of those who want the same place only the first can own it, so the others are not visited.
    """

    def __init__(self, lister: Lister, user_ids: UserIDIndex) -> None:
        self._lister = lister
        self._user_ids = user_ids
        self._claims: dict[str, _Claim] = {}
        """`namespace/name` of a UserStorage -> what it wants; with `/0` or `/1` after it, where else it is served. The indexes have
        the same names.
        """
        self._wanting = RankedIndex()
        """Host and path -> all that want exactly this place."""
        self._first_within = RankedIndex()
        """Host and path -> the first of each wanted place at this path and below."""
        self._owners: dict[HostPath, str] = {}
        self._owners_within = RankedIndex()
        """Host and path -> the owners of places at this path and below."""

    def is_taken(self, key: Key) -> bool:
        """Whether another UserStorage owns a place that overlaps with the one that the UserStorage wants; False if it wants none."""
        claim = self._claims.get(str(key))
        return claim is not None and self._owners.get(claim.place) != str(key)

    def update(self, raw: Unstructured, *, exists: bool) -> set[Key]:
        """Index a UserStorage again, after a change of itself, its class, its Ingress or HTTPRoute, or the owner of its user id.

        Return the other UserStorages that got or lost their place by that.
        """
        key = Key.of(raw)
        claims = self._claims_of(raw) if exists else {}
        changed: set[str] = set()
        for name in (str(key), *(f"{key}/{number}" for number in range(len(EXPOSURE)))):
            self._update(name, claims.get(name), changed)
        return {Key(*name.split("/")[:2]) for name in changed} - {key}

    def _update(self, name: str, claim: _Claim | None, changed: set[str]) -> None:
        previous = self._claims.pop(name, None)
        if claim is not None:
            self._claims[name] = claim
        if claim == previous:
            return
        undecided: list[tuple[Rank, str]] = []
        if previous is not None and (claim is None or claim.place != previous.place):
            self._rank(name, previous.place, None, undecided, changed)
        if claim is not None:
            self._rank(name, claim.place, claim.rank, undecided, changed)
        self._decide(undecided, changed)

    def _claims_of(self, raw: Unstructured) -> dict[str, _Claim]:
        """Return the claims of `raw` by name: the place that its class gives to it, or that it serves if the class gives none or no
        reconcile moves it; and the places that it serves besides. Empty if `raw` does not own its user id.
        """
        if not self._user_ids.is_owner(raw):
            return {}
        served = list(_served_hosts(raw, self._lister))
        wanted = wanted_host(raw, self._lister.classes())
        place = next(iter(served), wanted) if wanted is None or _stays(raw) else wanted
        if place is None:
            return {}
        elsewhere = place != wanted if place in served else all(at.host != place.host for at in served)
        name, created, uid = str(Key.of(raw)), raw["metadata"]["creationTimestamp"], raw["metadata"]["uid"]
        claims = {name: _Claim(place, (place not in served, elsewhere, created, uid))}
        for number, other in enumerate(served):
            if not any(_overlap(other, claim.place) for claim in claims.values()):
                claims[f"{name}/{number}"] = _Claim(other, (False, True, created, f"{uid}/{number}"))
        return claims

    def _rank(
        self, name: str, place: HostPath, rank: Rank | None, undecided: list[tuple[Rank, str]], changed: set[str]
    ) -> None:
        """Give `name` this rank among those that want the place; None removes it.

        Add those to `undecided` of which another decision is needed, and to `changed` the former owner.
        """
        before = self._first(place)
        self._wanting.update((place.host, place.path), name, rank)
        first = self._first(place)
        if first == before:
            return
        for prefix in _prefixes(place):
            if before is not None:
                self._first_within.update((prefix.host, prefix.path), before[1], None)
            if first is not None:
                self._first_within.update((prefix.host, prefix.path), first[1], first[0])
        if before is not None and self._owners.get(place) == before[1]:
            if first is not None and first[1] == before[1] and first[0] < before[0]:
                self._own(place, first[1], first[0])  # it precedes at least those that it preceded before
                return
            self._disown(place, changed)
            undecided += self._overlapping(place, before[0])
        if first is not None:
            undecided.append(first)

    def _decide(self, undecided: list[tuple[Rank, str]], changed: set[str]) -> None:
        """Decide in order of precedence, so that each decision depends only on those before it. Collect who gets or loses a place."""
        heapq.heapify(undecided)
        while undecided:
            rank, name = heapq.heappop(undecided)
            place = self._claims[name].place
            if self._is_preceded(place, rank) is not (self._owners.get(place) == name):
                continue
            if self._owners.get(place) == name:
                self._disown(place, changed)
                waiting = self._overlapping(place, rank)
            else:
                self._own(place, name, rank)
                changed ^= {name}
                waiting = self._overlapping_owners(place, rank)
            for other in waiting:
                heapq.heappush(undecided, other)

    def _is_preceded(self, place: HostPath, rank: Rank) -> bool:
        """Whether the owner of an overlapping place precedes this rank."""
        index = (place.host, place.path)
        below = self._owners_within.first(index)
        if below is not None and (self._owners_within.rank(index, below) or rank) < rank:
            return True
        above = (self._owners.get(prefix) for prefix in _prefixes(place) if prefix != place)
        return any(self._claims[owner].rank < rank for owner in above if owner is not None)

    def _overlapping(self, place: HostPath, rank: Rank) -> list[tuple[Rank, str]]:
        """Return the first of each overlapping place, as far as `rank` precedes it."""
        above = [first for prefix in _prefixes(place) if prefix != place and (first := self._first(prefix)) is not None]
        return [other for other in (*above, *self._first_within.ranked((place.host, place.path))) if other[0] > rank]

    def _overlapping_owners(self, place: HostPath, rank: Rank) -> list[tuple[Rank, str]]:
        """Return the owners of overlapping places that `rank` precedes."""
        above = [owner for prefix in _prefixes(place) if prefix != place and (owner := self._owners.get(prefix)) is not None]
        ranked = [(self._claims[owner].rank, owner) for owner in above]
        return [other for other in (*ranked, *self._owners_within.ranked((place.host, place.path))) if other[0] > rank]

    def _first(self, place: HostPath) -> tuple[Rank, str] | None:
        """Return who precedes all others that want exactly this place, with its rank; None if it is not wanted."""
        return next(self._wanting.ranked((place.host, place.path)), None)

    def _own(self, place: HostPath, name: str, rank: Rank) -> None:
        self._owners[place] = name
        for prefix in _prefixes(place):
            self._owners_within.update((prefix.host, prefix.path), name, rank)

    def _disown(self, place: HostPath, changed: set[str]) -> None:
        name = self._owners.pop(place)
        changed ^= {name}
        for prefix in _prefixes(place):
            self._owners_within.update((prefix.host, prefix.path), name, None)


def _stays(raw: Unstructured) -> bool:
    """Whether no reconcile moves the Ingress or HTTPRoute: the UserStorage is paused, or it is being deleted."""
    meta = raw["metadata"]
    return "deletionTimestamp" in meta or (meta.get("annotations") or {}).get(names.ANNOTATION_PAUSED) == "true"


def _overlap(one: HostPath, other: HostPath) -> bool:
    return one.host == other.host and (one.path.startswith(other.path) or other.path.startswith(one.path))


def _prefixes(place: HostPath) -> Iterator[HostPath]:
    """Yield the places that contain this one, from `/` down to itself."""
    path = "/"
    yield HostPath(place.host, path)
    for element in place.path.split("/"):
        if element:
            path += f"{element}/"
            yield HostPath(place.host, path)


def _served_hosts(raw: Unstructured, lister: Lister) -> Iterator[HostPath]:
    """Yield the places that the Ingress and the HTTPRoute of the UserStorage have now, with paths that end with `/`."""
    served = (served_host(child) for kind in EXPOSURE if (child := own_child(kind, raw, lister)) is not None)
    for place in served:
        if place is not None and len(place.path) <= PATH_MAX:  # an edited one may be of any length
            *_, normal = _prefixes(place)
            yield normal
