"""The difference between the mirror and the cluster."""

from support.builders import storage_object
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readmodel.mirror_diff import MirrorDiff, compare
from userstorage_operator.readmodel.summary import summary


def raw(name: str, version: str = "5") -> Unstructured:
    meta = {"name": name, "namespace": "users", "uid": f"uid-{name}", "resourceVersion": version}
    return storage_object(name, meta=meta)


def test_equal_mirror_has_no_difference() -> None:
    raws = [raw("alice"), raw("bob")]
    assert not compare(raws, {Key.of(one): summary(one) for one in raws})


def test_differences_are_sorted_by_kind_and_name() -> None:
    raws = [raw(name) for name in ("new", "also-new", "older", "unreadable", "same")]
    mirrored = {
        Key("users", "older"): summary(raw("older", "4")),
        Key("users", "unreadable"): None,
        Key("users", "same"): summary(raw("same")),
        Key("users", "gone"): summary(raw("gone")),
    }
    assert compare(raws, mirrored) == MirrorDiff(
        (Key("users", "also-new"), Key("users", "new")),
        (Key("users", "gone"),),
        (Key("users", "older"), Key("users", "unreadable")),
    )
