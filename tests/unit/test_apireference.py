"""The generator of the API reference, on a minimal CRD."""

from typing import Any

import pytest

from apireference.render import page
from apireference.schema import rows

SPEC: dict[str, Any] = {
    "type": "object",
    "description": "The desired state.",
    "required": ["name"],
    "x-kubernetes-validations": [{"rule": "…", "message": "size needs name", "fieldPath": ".size"}],
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 9, "pattern": "^a|b$", "description": "A name."},
        "size": {"x-kubernetes-int-or-string": True, "default": "10%", "description": "A size."},
        "peers": {
            "type": "array",
            "maxItems": 4,
            "description": "Peers.",
            "items": {
                "type": "object",
                "x-kubernetes-validations": [{"rule": "…", "message": "peers[] needs zone"}],
                "properties": {"zone": {"type": "string", "enum": ["a", "b"], "description": "A zone."}},
            },
        },
        "labels": {
            "type": "object",
            "maxProperties": 2,
            "description": "Labels.",
            "additionalProperties": {"type": "string", "maxLength": 63},
        },
    },
}
CRD: dict[str, Any] = {
    "spec": {
        "group": "example.org",
        "scope": "Cluster",
        "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"]},
        "versions": [
            {
                "additionalPrinterColumns": [
                    {"name": "Zone", "jsonPath": ".spec.zone", "description": "Its zone.", "priority": 1}
                ],
                "selectableFields": [{"jsonPath": ".spec.name"}],
                "schema": {
                    "openAPIV3Schema": {
                        "description": "A thing.",
                        "properties": {"spec": SPEC, "status": {"description": "The observed state."}},
                    }
                },
            }
        ],
    }
}


def test_fields_keep_the_order_of_the_crd_and_have_types() -> None:
    assert [(row.path, row.type, row.default) for row in rows(SPEC, "spec")] == [
        ("spec.name", "string", ""),
        ("spec.size", "integer or string", "10%"),
        ("spec.peers", "list of object", ""),
        ("spec.peers[].zone", "string", ""),
        ("spec.labels", "map of string", ""),
    ]


def test_rules_are_listed_at_the_field_that_they_name() -> None:
    assert {row.path: row.rules for row in rows(SPEC, "spec")} == {
        "spec.name": ["required", "length 1 to 9", "pattern `^a|b$`"],
        "spec.size": ["size needs name"],
        "spec.peers": ["entries at most 4", "peers[] needs zone"],
        "spec.peers[].zone": ["one of a, b"],
        "spec.labels": ["entries at most 2", "each: length at most 63"],
    }


def test_cel_rule_without_a_known_field_raises() -> None:
    with pytest.raises(KeyError):
        rows(SPEC | {"x-kubernetes-validations": [{"rule": "…", "message": "about nothing"}]}, "spec")


def test_page_has_kinds_columns_selectors_and_reasons() -> None:
    text = page([CRD], {"Thing": "kind: Thing\n"}, {"Thing": {"Ready": {"Broken": "It is broken."}}})
    for part in (
        "## Thing",
        "`things.example.org`, short name `th`, cluster-scoped.",
        "```yaml\nkind: Thing\n```",
        "pattern `^a\\|b$`",
        "| Zone | `.spec.zone` | with `-o wide` | Its zone. |",
        "Field selectors: `spec.name`.",
        "### Ready",
        "| `Broken` | It is broken. |",
    ):
        assert part in text
