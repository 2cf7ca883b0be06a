"""Typed reading of raw API objects. The schema has checked them; what slips through names its field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from userstorage_operator.api.errors import InvalidSpec

Unstructured = dict[str, Any]
"""A Kubernetes object as its JSON: what the API server sent, never changed in place."""

T = TypeVar("T")


def version_of(obj: Unstructured) -> int:
    """The resourceVersion as a number: comparable within a resource, promised since Kubernetes 1.35, true long before."""
    return int(obj["metadata"]["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping inside a raw object, and the path that led there (for error messages)."""

    raw: Mapping[str, Any]
    path: str

    def get(self, name: str, kind: type[T], default: T) -> T:
        """The field, or `default` where it is absent or null. Raises InvalidSpec where it has another type."""
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidSpec(f"{self.path}.{name} must be of type {kind.__name__}, not {type(value).__name__}")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The field, or None where it is absent."""
        return self.get(name, kind, cast("T", None))

    def parsed(self, name: str, parse: Callable[[str], T], default: str) -> T:
        """The field's text through `parse`; an InvalidSpec from there gets the field's name in front."""
        text = self.get(name, str, default)
        try:
            return parse(text)
        except InvalidSpec as error:
            raise InvalidSpec(f"{self.path}.{name}: {error.message}") from None

    def quantity(self, name: str) -> str | None:
        """A quantity as text; the schema admits plain numbers too. None where it is absent."""
        value = self.raw.get(name)
        return str(value) if isinstance(value, int) else self.optional(name, str)

    def choice(self, name: str, choices: type[T], default: T) -> T:
        """The field as a member of the enumeration `choices`."""
        value = self.raw.get(name)
        if value is None:
            return default
        try:
            return choices(value)  # type: ignore[call-arg]  # an Enum class called with a value
        except ValueError:
            raise InvalidSpec(f"{self.path}.{name}: {value!r} is not supported") from None

    def section(self, name: str) -> "Fields":
        """A nested mapping; empty where it is absent."""
        return Fields(self.get(name, dict, {}), f"{self.path}.{name}")
