"""What `kubectl userstorage explain` says about the way in and what guards it."""

from typing import Any

import pytest

from support.builders import class_object, storage_object
from userstorage_operator.api.userstorageclass import BUILT_IN, UserStorageClass, class_in_effect
from userstorage_operator.plugin import describe, guards


def shown(**spec: Any) -> str:
    return "\n".join(guards(storage_object(), UserStorageClass.parse(class_object(**spec))))


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ({"browser": {"flavor": "FileBrowser"}}, "in the header X-Forwarded-User? yes: File Browser"),
        (
            {"browser": {"flavor": "Copyparty"}, "auth": {"headerName": "X-Files-User"}},
            "in the header X-Files-User? yes: Copyparty",
        ),
        ({"browser": {"flavor": "Quantum"}}, "in part"),
        ({"browser": {"flavor": "Custom"}}, "up to its image"),
        (
            {"browser": {"flavor": "Dufs"}, "auth": {"mode": "None", "acknowledgeUnauthenticated": True}},
            "name? no: every client",
        ),
        ({"browser": {"flavor": "FileBrowser"}, "auth": {"mode": "None", "acknowledgeUnauthenticated": True}}, "name? no"),
        ({}, "only from namespaces labelled userstorage.dev/gateway=true"),
        ({"network": {"allowedFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}, "only from network.allowedFrom of the class"),
        ({"network": {"policy": "None"}}, "not restricted by the operator"),
    ],
)
def test_explain_says_what_guards_the_files(spec: dict[str, Any], answer: str) -> None:
    assert answer in shown(**spec)


def test_explain_claims_nothing_about_the_gateway() -> None:
    assert "does the gateway ask the gate? not visible in the cluster" in shown()


def test_explain_names_the_way_in() -> None:
    raw = storage_object() | {"status": {"url": "https://alice.example.org/", "observedGeneration": 3}}
    assert "  way in: https://alice.example.org/" in list(describe(raw))


def test_class_in_effect_is_the_named_the_default_or_the_built_in_one() -> None:
    marked = class_object("marked", meta={"annotations": {"userstorage.dev/is-default-class": "true"}})
    named = class_object("named")
    for name, classes, found in (("named", [named, marked], "named"), (None, [named, marked], "marked")):
        cls = class_in_effect(name, classes)
        assert cls is not None
        assert cls.name == found
    assert class_in_effect(None, [named]) is BUILT_IN
    assert class_in_effect("gone", [named, marked]) is None
