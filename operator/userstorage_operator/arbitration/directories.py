"""The UserStorages that use the directories of claims, in order of precedence. No query scans all of them."""

from collections import Counter
from collections.abc import Iterator
from heapq import merge
from typing import NamedTuple

from userstorage_operator.api.subpath import Directory, comparable
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.ranking import IndexKey, Rank, insert, remove
from userstorage_operator.observed.claim_usage import ClaimUse


class Claimant(NamedTuple):
    """A UserStorage and the directory that it uses. Claimants sort by rank; no two ranks are equal."""

    rank: Rank
    name: str
    user_id: str
    use: ClaimUse


class _List(NamedTuple):
    """Key of a list of claimants."""

    namespace: str
    claim: str
    directory: Directory
    """As `comparable` returns it."""
    below: bool
    """Whether the list has all directories in `directory` too; otherwise only `directory` itself."""
    read_only: bool


class DirectoryIndex:
    """At most one use of a claim for each UserStorage. A change and a query take O(log n), times the depth of the directory.

    Two uses conflict if one directory is, or contains, the other, and not both only read. Case makes no difference.
    """

    def __init__(self) -> None:
        self._claimants: dict[Key, Claimant] = {}
        self._sole: dict[IndexKey, Claimant] = {}
        """Namespace and name of a claim that one UserStorage uses, as most are: its lists would take a kilobyte."""
        self._shared: Counter[IndexKey] = Counter()
        """Namespace and name of each other claim -> how many use it, or have used it together with another."""
        self._lists: dict[_List, list[Claimant]] = {}
        """The lists of the other claims."""

    def get(self, key: Key) -> Claimant | None:
        """Return the UserStorage with its use; None if it uses nothing."""
        return self._claimants.get(key)

    def update(self, key: Key, claimant: Claimant | None) -> None:
        """Set the use of the UserStorage; None removes it."""
        if (previous := self._claimants.pop(key, None)) is not None:
            claim = key.namespace, previous.use.claim
            if self._sole.pop(claim, None) is None:
                self._remove(claim, previous)
        if claimant is not None:
            self._claimants[key] = claimant
            claim = key.namespace, claimant.use.claim
            if (other := self._sole.pop(claim, None)) is not None:
                self._insert(claim, other)
            if claim in self._shared:
                self._insert(claim, claimant)
            else:
                self._sole[claim] = claimant

    def _insert(self, claim: IndexKey, claimant: Claimant) -> None:
        self._shared[claim] += 1
        for place in _lists_of(claim[0], claimant.use):
            insert(self._lists, place, claimant)

    def _remove(self, claim: IndexKey, claimant: Claimant) -> None:
        self._shared[claim] -= 1
        if not self._shared[claim]:
            del self._shared[claim]
        for place in _lists_of(claim[0], claimant.use):
            remove(self._lists, place, claimant)

    def conflicting(self, namespace: str, use: ClaimUse) -> Iterator[Claimant]:
        """Yield the UserStorages whose use conflicts with `use`, in order. The iterator is invalid after the next change."""
        modes, own = (False,) if use.read_only else (False, True), comparable(use.directory)
        for_each = [(mode, parent) for mode in modes for parent in _prefixes(own)]
        return self._merged(
            (namespace, use.claim),
            *(_List(namespace, use.claim, parent, False, mode) for mode, parent in for_each if parent != own),
            *(_List(namespace, use.claim, own, True, mode) for mode in modes),
        )

    def dominating(self, namespace: str, use: ClaimUse) -> Iterator[Claimant]:
        """Yield the UserStorages, in order, that conflict with every use that conflicts with `use`."""
        modes, own = (False, True) if use.read_only else (False,), comparable(use.directory)
        places = (_List(namespace, use.claim, parent, False, mode) for mode in modes for parent in _prefixes(own))
        return self._merged((namespace, use.claim), *places)

    def above(self, namespace: str, use: ClaimUse) -> Iterator[Claimant]:
        """Yield the UserStorages, in order, with a directory that contains that of `use`, and that conflict with `use`."""
        modes, own = (False,) if use.read_only else (False, True), comparable(use.directory)
        parents = (parent for parent in _prefixes(own) if parent != own)
        places = (_List(namespace, use.claim, parent, False, mode) for parent in parents for mode in modes)
        return self._merged((namespace, use.claim), *places)

    def _merged(self, claim: IndexKey, *places: _List) -> Iterator[Claimant]:
        if (sole := self._sole.get(claim)) is not None:
            found = not set(places).isdisjoint(_lists_of(claim[0], sole.use))
            return iter((sole,) if found else ())
        return merge(*(self._lists[place] for place in places if place in self._lists))


def _prefixes(directory: Directory) -> Iterator[Directory]:
    """Yield the root, each directory on the way, and the directory itself."""
    return (directory[:length] for length in range(len(directory) + 1))


def _lists_of(namespace: str, use: ClaimUse) -> Iterator[_List]:
    own = comparable(use.directory)
    yield _List(namespace, use.claim, own, False, use.read_only)
    for parent in _prefixes(own):
        yield _List(namespace, use.claim, parent, True, use.read_only)
