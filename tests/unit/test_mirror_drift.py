"""What is told of a mirror that is not as the cluster."""

from builders import storage_object
from userstorage_operator.api.unstructured import Object
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.mirror_diff import Drift, compare
from userstorage_operator.readmodel.summary import view


def raw(name: str, version: str = "5") -> Object:
    meta = {"name": name, "namespace": "users", "uid": f"uid-{name}", "resourceVersion": version}
    return storage_object(name, meta=meta)


def test_the_same_is_no_drift() -> None:
    raws = [raw("alice"), raw("bob")]
    assert not compare(raws, {Key.of(one): view(one) for one in raws})


def test_names_are_told_in_order_by_how_they_differ() -> None:
    raws = [raw(name) for name in ("new", "also-new", "older", "unreadable", "same")]
    kept = {
        Key("users", "older"): view(raw("older", "4")),
        Key("users", "unreadable"): None,
        Key("users", "same"): view(raw("same")),
        Key("users", "gone"): view(raw("gone")),
    }
    assert compare(raws, kept) == Drift(
        (Key("users", "also-new"), Key("users", "new")),
        (Key("users", "gone"),),
        (Key("users", "older"), Key("users", "unreadable")),
    )
