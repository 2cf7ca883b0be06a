from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.host import PlaceIndex
from userstorage_operator.plan.exposure import Place

HERE, THERE = Place("a.example.org", "/"), Place("b.example.org", "/")
ONE, OTHER = Key("blue", "alice"), Key("green", "alice")


def test_who_comes_and_who_goes_concerns_those_of_the_same_place() -> None:
    index = PlaceIndex()
    assert index.move(ONE, HERE) == set()
    assert index.move(OTHER, HERE) == {ONE}
    assert index.move(OTHER, HERE) == set()
    assert index.sharing(ONE) == {OTHER}
    assert index.move(ONE, THERE) == {OTHER}
    assert index.sharing(OTHER) == set()
    assert index.move(OTHER, None) == set()
    assert index.move(OTHER, Place(HERE.host, "/u/")) == set()
    assert index.sharing(ONE) == set()


def test_nobody_is_left_behind_in_the_index() -> None:
    index = PlaceIndex()
    for at in (HERE, THERE, None):
        index.move(ONE, at)
    assert (index._place_of, index._keys_at) == ({}, {})
