from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.host import HostIndex
from userstorage_operator.plan.exposure import HostPath

HERE, THERE = HostPath("a.example.org", "/"), HostPath("b.example.org", "/")
ONE, OTHER = Key("blue", "alice"), Key("green", "alice")


def test_who_comes_and_who_goes_concerns_those_of_the_same_place() -> None:
    index = HostIndex()
    assert index.update(ONE, HERE) == set()
    assert index.update(OTHER, HERE) == {ONE}
    assert index.update(OTHER, HERE) == set()
    assert index.sharing(ONE) == {OTHER}
    assert index.update(ONE, THERE) == {OTHER}
    assert index.sharing(OTHER) == set()
    assert index.update(OTHER, None) == set()
    assert index.update(OTHER, HostPath(HERE.host, "/u/")) == set()
    assert index.sharing(ONE) == set()


def test_nobody_is_left_behind_in_the_index() -> None:
    index = HostIndex()
    for at in (HERE, THERE, None):
        index.update(ONE, at)
    assert (index._place_of, index._keys_at) == ({}, {})
