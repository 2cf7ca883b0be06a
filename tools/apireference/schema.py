"""Turns the OpenAPI schema of a CRD into rows of the field table: one per field, with its validation rules in words."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]


@dataclass(slots=True)
class Row:
    """The row of one field. `rules` includes the CEL rules of a parent field whose fieldPath points to this field."""

    path: str
    type: str
    default: str
    description: str
    rules: list[str] = field(default_factory=list)


def rows(schema: Schema, path: str) -> list[Row]:
    """Return one row for each field below the field `path` with that schema, in the order of the CRD, parents first.

    Raises KeyError if a CEL rule belongs to none of these fields: its fieldPath is wrong or missing.
    """
    table = {row.path: row for row in _fields(schema, path)}
    for target, message in _messages(schema, path):
        known = table[target].rules  # a KeyError means that the rule names no field: give it a fieldPath
        if message not in known:
            known.append(message)
    return list(table.values())


def _fields(schema: Schema, path: str) -> Iterator[Row]:
    required = schema.get("required", ())
    for name, child in schema.get("properties", {}).items():
        child_path = f"{path}.{name}"
        rules = (["required"] if name in required else []) + _bounds(child)
        element = _element(child)
        if element is not None and "properties" not in element:
            rules += [f"each: {rule}" for rule in _bounds(element)]
        yield Row(child_path, type_name(child), _default(child), child.get("description", ""), rules)
        yield from _fields(child, child_path)
        if element is not None:
            yield from _fields(element, _element_path(child, child_path))


def _messages(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """Yield for each CEL rule the path of the field that it is about, and the rule's message.

    That field is the rule's fieldPath. Without a fieldPath it is the field in whose schema the rule is.
    """
    for rule in schema.get("x-kubernetes-validations", ()):
        yield (path + rule["fieldPath"] if "fieldPath" in rule else path.removesuffix("[]")), rule["message"]
    for name, child in schema.get("properties", {}).items():
        yield from _messages(child, f"{path}.{name}")
    element = _element(schema)
    if element is not None:
        below = _element_path(schema, path)
        yield from _messages(element, below if "properties" in element else path)


def _element(schema: Schema) -> Schema | None:
    """Return the schema of the elements of a list or map; None for any other schema."""
    element: Schema | None = schema.get("items") or schema.get("additionalProperties")
    return element


def _element_path(schema: Schema, path: str) -> str:
    return f"{path}[]" if "items" in schema else f"{path}.*"


def type_name(schema: Schema) -> str:
    """Return the type of a field in words, such as `list of object`, `integer or string` or `time`."""
    element = _element(schema)
    if element is not None:
        return f"{'list' if 'items' in schema else 'map'} of {type_name(element)}"
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    return "time" if schema.get("format") == "date-time" else str(schema["type"])


def _default(schema: Schema) -> str:
    """Return the default of a field as text. Empty if it has none, or if it is an object, whose fields have their own rows."""
    if "default" not in schema or schema.get("type") == "object":
        return ""
    value = schema["default"]
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _bounds(schema: Schema) -> list[str]:
    """Return the validation rules of a field in words: enum, minimum and maximum, lengths and pattern, but no CEL rules."""
    bounds = []
    if "enum" in schema:
        bounds.append("one of " + ", ".join(schema["enum"]))
    for kind, low, high in (
        ("", "minimum", "maximum"),
        ("length ", "minLength", "maxLength"),
        ("entries ", "minItems", "maxItems"),
        ("entries ", "minProperties", "maxProperties"),
    ):
        if low in schema and high in schema:
            bounds.append(f"{kind}{schema[low]} to {schema[high]}")
        elif high in schema:
            bounds.append(f"{kind}at most {schema[high]}")
        elif low in schema:
            bounds.append(f"{kind}at least {schema[low]}")
    if "pattern" in schema:
        bounds.append(f"pattern `{schema['pattern']}`")
    return bounds
