"""Values that a schema accepts and refuses: each keyword of the schema is tried on both sides of what it allows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from userstorage_operator.api.unstructured import Unstructured

Samples = Mapping[str, Sequence[Any]]
"""Path of a field -> valid values, for what a schema does not enumerate."""


@dataclass(frozen=True)
class Transition:
    """A value that a field gets."""

    path: str
    """Dotted path of the field below `spec`."""
    value: Any
    valid: bool

    @property
    def patch(self) -> Unstructured:
        """The merge patch of the spec."""
        return nested(self.path, self.value)


def nested(path: str, value: Any) -> Unstructured:
    """Return `value` at the dotted path, as a merge patch."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def transitions(schema: Unstructured, samples: Samples, path: str = "") -> Iterator[Transition]:
    """Yield valid and invalid values of each field of the schema of a spec. A map or a list is one field. Raises LookupError for a
    field of which neither the schema nor `samples` has a valid value.
    """
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from transitions(inner, samples, f"{path}.{name}" if path else name)
        return
    valid = [*samples.get(path, ()), *_valid(schema)]
    if not valid and path not in samples:
        raise LookupError(f"no sample of a valid {path}")
    yield from (Transition(path, value, valid=True) for value in valid)
    yield from (Transition(path, value, valid=False) for value in _invalid(schema))


def _valid(schema: Unstructured) -> Iterator[Any]:
    yield from schema.get("enum", ())
    if schema.get("type") == "boolean":
        yield from (True, False)
    if schema.get("type") == "integer":
        yield from (schema[bound] for bound in ("minimum", "maximum"))


def _invalid(schema: Unstructured) -> Iterator[Any]:
    kind = schema.get("type")
    if kind == "boolean":
        yield "yes"
    elif kind == "integer":
        yield from (schema["minimum"] - 1, schema["maximum"] + 1, str(schema["minimum"]), 1.5)
    elif kind == "array":
        yield from ("no list", [7])
    elif kind == "object":
        yield from ("no map", {"key": ["no text"]})
    else:
        yield from _invalid_text(schema)


def _invalid_text(schema: Unstructured) -> Iterator[Any]:
    yield from (True, {"no": "text"})
    if "enum" in schema or "pattern" in schema or "x-kubernetes-validations" in schema:
        yield "\u00e9 \n"
    if schema.get("minLength"):
        yield ""
    if "maxLength" in schema:
        yield "a" * (schema["maxLength"] + 1)
