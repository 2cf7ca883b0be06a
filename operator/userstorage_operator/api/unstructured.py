"""Typed access to the fields of raw objects, which the API server has validated against the CRD's schema.

A value that the schema let through by mistake raises InvalidSpec, which names the field.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from userstorage_operator.api.errors import InvalidSpec

Unstructured = dict[str, Any]
"""A Kubernetes object as parsed JSON from the API server. Never modified in place."""

T = TypeVar("T")


def version_of(obj: Unstructured) -> int:
    """Return the resourceVersion as a number. Of two objects of the same resource, the newer one has the larger number.

    Kubernetes guarantees this order since 1.35; older versions have it too.
    """
    return int(obj["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Fields:
    """One section of a raw object, such as its `spec.storage`, with the field path of the section for error messages."""

    raw: Mapping[str, Any]
    path: str

    def get(self, name: str, kind: type[T], default: T) -> T:
        """Return the value of the field, or `default` if it is absent or null. Raises InvalidSpec if the type is not `kind`."""
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidSpec(f"{self.path}.{name} must be of type {kind.__name__}, not {type(value).__name__}")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return the value of the field; None if it is absent or null. Raises InvalidSpec if the type is not `kind`."""
        return self.get(name, kind, cast("T", None))

    def parsed(self, name: str, parse: Callable[[str], T], default: str) -> T:
        """Return `parse(text)`, where `text` is the value of the field, or `default` if it is absent.

        Raises InvalidSpec, with the path of the field in its message, if `parse` does or if the value is not text.
        """
        text = self.get(name, str, default)
        try:
            return parse(text)
        except InvalidSpec as error:
            raise InvalidSpec(f"{self.path}.{name}: {error.message}") from None

    def quantity(self, name: str) -> str | None:
        """Return a quantity such as `10Gi` as text; None if the field is absent. The schema also admits integers."""
        value = self.raw.get(name)
        return str(value) if isinstance(value, int) else self.optional(name, str)

    def choice(self, name: str, choices: type[T], default: T) -> T:
        """Return the value of the field as a member of the Enum `choices`, or `default` if the field is absent or null.

        Raises InvalidSpec if the value is not a member.
        """
        value = self.raw.get(name)
        if value is None:
            return default
        try:
            return choices(value)  # type: ignore[call-arg]  # an Enum class called with a value
        except ValueError:
            raise InvalidSpec(f"{self.path}.{name}: {value!r} is not supported") from None

    def texts(self, name: str) -> Mapping[str, str]:
        """Return a field that maps text to text; an empty map if it is absent. Raises InvalidSpec if a value is no text."""
        values = Fields(self.get(name, dict, {}), f"{self.path}.{name}")
        return {key: values.get(key, str, "") for key in values.raw}

    def keys(self, name: str) -> tuple[str, ...]:
        """Return a list of text; no entry if it is absent. Raises InvalidSpec if an entry is no text."""
        entries = self.get(name, list, [])
        if not all(isinstance(entry, str) for entry in entries):
            raise InvalidSpec(f"{self.path}.{name} must hold text only")
        return tuple(entries)

    def section(self, name: str) -> "Fields":
        """Return the section `name` inside this one; a section without fields if it is absent."""
        return Fields(self.get(name, dict, {}), f"{self.path}.{name}")
