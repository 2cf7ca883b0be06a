"""What is told of a mirror that is not as the cluster."""

from support.builders import storage_object
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.mirror_diff import MirrorDiff, compare
from userstorage_operator.readmodel.summary import summary


def raw(name: str, version: str = "5") -> Unstructured:
    meta = {"name": name, "namespace": "users", "uid": f"uid-{name}", "resourceVersion": version}
    return storage_object(name, meta=meta)


def test_the_same_is_no_drift() -> None:
    raws = [raw("alice"), raw("bob")]
    assert not compare(raws, {Key.of(one): summary(one) for one in raws})


def test_names_are_told_in_order_by_how_they_differ() -> None:
    raws = [raw(name) for name in ("new", "also-new", "older", "unreadable", "same")]
    kept = {
        Key("users", "older"): summary(raw("older", "4")),
        Key("users", "unreadable"): None,
        Key("users", "same"): summary(raw("same")),
        Key("users", "gone"): summary(raw("gone")),
    }
    assert compare(raws, kept) == MirrorDiff(
        (Key("users", "also-new"), Key("users", "new")),
        (Key("users", "gone"),),
        (Key("users", "older"), Key("users", "unreadable")),
    )
