"""Static checks of the CRDs, without an API server."""

import copy
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
import yaml

from apireference.__main__ import TARGET, current
from component import bad_class_inputs, bad_inputs

Schema = dict[str, Any]

CRDS = Path(__file__).resolve().parents[2] / "deploy" / "crds"
KINDS = ("userstorages", "userstorageclasses")
STANDARD = {".apiVersion", ".kind", ".metadata", ".metadata.name"}
"""Fields that the API server itself bounds, and for which it accepts only few keywords in a CRD."""
FORBIDDEN = {
    "image",
    "imagePullSecrets",
    "command",
    "args",
    "env",
    "serviceAccount",
    "serviceAccountName",
    "securityContext",
    "hostPath",
    "hostNetwork",
    "nodeName",
    "namespace",
    "volumes",
    "podTemplate",
}
"""Fields that would let a tenant exceed what the administrator permits."""


def load(plural: str) -> Schema:
    crd: Schema = yaml.safe_load((CRDS / f"userstorage.dev_{plural}.yaml").read_text(encoding="utf-8"))
    return crd


def schema(plural: str) -> Schema:
    root: Schema = load(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return root


def walk(node: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every schema below `node` with its path."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from walk(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield f"{path}[]", node[keyword]
            yield from walk(node[keyword], f"{path}[]")


def bounded(node: Schema) -> bool:
    """Whether the node limits its own size."""
    match node.get("type"):
        case "array":
            return "maxItems" in node
        case "object":
            return "additionalProperties" not in node or "maxProperties" in node
        case "string" | None:  # without a type it is an int-or-string
            return "maxLength" in node or "enum" in node or node.get("format") == "date-time"
        case _:
            return True


def described(node: Schema) -> bool:
    """Whether the description of the node ends with a full sentence."""
    text: str = node.get("description", "")
    return text.endswith(".")


@pytest.mark.parametrize("plural", KINDS)
def test_every_list_map_and_string_has_a_maximum(plural: str) -> None:
    """Require a maximum: without one neither the object nor the cost of its rules is bounded."""
    assert [path for path, node in walk(schema(plural)) if path not in STANDARD and not bounded(node)] == []


@pytest.mark.parametrize("plural", KINDS)
def test_every_field_is_described(plural: str) -> None:
    assert [path for path, node in walk(schema(plural)) if path not in STANDARD and not described(node)] == []


@pytest.mark.parametrize("plural", KINDS)
def test_no_field_accepts_unknown_fields(plural: str) -> None:
    assert [path for path, node in walk(schema(plural)) if "x-kubernetes-preserve-unknown-fields" in node] == []


@pytest.mark.parametrize("plural", KINDS)
def test_every_cel_rule_names_its_field(plural: str) -> None:
    """Require the field in the message, as a log line shows only the message."""
    unnamed = []
    for path, node in walk(schema(plural)):
        for rule in node.get("x-kubernetes-validations", ()):
            field = (path.removesuffix("[]") + rule.get("fieldPath", "")).rsplit(".", 1)[-1].removesuffix("[]")
            if field not in rule["message"]:
                unnamed.append((path, rule["message"]))
    assert unnamed == []


@pytest.mark.parametrize(("plural", "table"), [("userstorages", bad_inputs), ("userstorageclasses", bad_class_inputs)])
def test_every_cel_rule_has_a_refused_input_in_component_tests(plural: str, table: ModuleType) -> None:
    """tests/component has a refused input for every message."""
    tried = [row.message for row in (*table.REFUSED, *table.CHANGES) if row.message is not None]
    messages = {rule["message"] for _, node in walk(schema(plural)) for rule in node.get("x-kubernetes-validations", ())}
    assert [message for message in sorted(messages) if not any(part in message for part in tried)] == []


def test_tenant_cannot_set_fields_of_the_class() -> None:
    spec = schema("userstorages")["properties"]["spec"]
    assert [path for path, _ in walk(spec) if path.rsplit(".", 1)[-1] in FORBIDDEN] == []


@pytest.mark.parametrize("field", ["className", "scheduling"])
def test_fields_with_class_default_have_no_schema_default(field: str) -> None:
    assert "default" not in schema("userstorages")["properties"]["spec"]["properties"][field]


def test_storage_size_has_no_schema_default() -> None:
    storage = schema("userstorages")["properties"]["spec"]["properties"]["storage"]
    assert "size" not in storage["default"]
    assert "default" not in storage["properties"]["size"]


def test_default_status_is_valid_and_reconciling() -> None:
    """Check what kstatus and `kubectl wait` see before the operator's first write."""
    status = schema("userstorages")["properties"]["status"]
    jsonschema.validate(status["default"], status)
    conditions = {condition["type"]: condition for condition in status["default"]["conditions"]}
    assert status["default"]["phase"] == "Pending"
    assert conditions["Ready"]["status"] == "Unknown"
    assert conditions["Reconciling"]["status"] == "True"


@pytest.mark.parametrize(
    ("section", "field"),
    [("scheduling", "nodeSelector"), ("scheduling", "tolerations"), ("podMetadata", "labels"), ("podMetadata", "annotations")],
)
def test_shared_schema_is_the_same_in_both_kinds(section: str, field: str) -> None:
    """Compare the two copies, as a CRD cannot refer to another file. Only a class may tolerate every taint."""
    first, second = (
        copy.deepcopy(schema(plural)["properties"]["spec"]["properties"][section]["properties"][field]) for plural in KINDS
    )
    for found in (first, second):
        del found["description"]
        if field == "tolerations":
            del found["items"]["properties"]["key"]["description"]
            rules = found["items"]["x-kubernetes-validations"]
            found["items"]["x-kubernetes-validations"] = [rule for rule in rules if "self.key != ''" not in rule["rule"]]
    assert first == second


def test_every_crd_is_in_the_kustomization() -> None:
    listed = yaml.safe_load((CRDS / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(path.name for path in CRDS.glob("userstorage.dev_*.yaml"))


def test_the_api_reference_is_current() -> None:
    assert TARGET.read_text(encoding="utf-8") == current()
