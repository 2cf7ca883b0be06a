"""The index of directories against a scan of all that use them."""

from hypothesis import given
from hypothesis import strategies as st

from userstorage_operator.api.subpath import comparable
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.directories import Claimant, DirectoryIndex
from userstorage_operator.observed.claim_usage import ClaimUse

NAMES = ("alice", "bob", "carol")
DIRECTORIES = ("", "a", "A", "a/b", "b")
USES = st.builds(ClaimUse, st.sampled_from(("one", "two")), st.sampled_from(DIRECTORIES), st.booleans())
CHANGES = st.lists(st.tuples(st.sampled_from(NAMES), st.none() | USES), max_size=12)


def contains(outer: ClaimUse, inner: ClaimUse) -> bool:
    own, other = comparable(outer.directory), comparable(inner.directory)
    return other[: len(own)] == own


def conflict(one: ClaimUse, other: ClaimUse) -> bool:
    if one.claim != other.claim or (one.read_only and other.read_only):
        return False
    return contains(one, other) or contains(other, one)


@given(CHANGES, USES)
def test_the_index_finds_what_a_scan_finds(changes: list[tuple[str, ClaimUse | None]], asked: ClaimUse) -> None:
    index = DirectoryIndex()
    present: dict[str, Claimant] = {}
    for name, use in changes:
        claimant = Claimant((False, "2026", name), name, name, use) if use is not None else None
        index.update(Key("users", name), claimant)
        present.pop(name, None)
        if claimant is not None:
            present[name] = claimant
        assert index.get(Key("users", name)) == claimant
    expected = sorted(other for other in present.values() if conflict(asked, other.use))
    assert list(index.conflicting("users", asked)) == expected
    assert not list(index.conflicting("others", asked))
    above = [other for other in expected if comparable(other.use.directory) != comparable(asked.directory)]
    assert list(index.above("users", asked)) == [other for other in above if contains(other.use, asked)]
    dominating = [
        other
        for other in sorted(present.values())
        if other.use.claim == asked.claim and contains(other.use, asked) and (asked.read_only or not other.use.read_only)
    ]
    assert list(index.dominating("users", asked)) == dominating
