"""Typed access to unparsed objects of the API server, which the CRD's schema has validated.

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
    """A mapping inside an unparsed object, with its field path for error messages."""

    raw: Mapping[str, Any]
    path: str

    def get(self, name: str, kind: type[T], default: T) -> T:
        """Return the field, or `default` if it is absent or null. Raises InvalidSpec if it has another type."""
        value = self.raw.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidSpec(f"{self.path}.{name} must be of type {kind.__name__}, not {type(value).__name__}")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return the field; None if it is absent or null. Raises InvalidSpec if it has another type."""
        return self.get(name, kind, cast("T", None))

    def parsed(self, name: str, parse: Callable[[str], T], default: str) -> T:
        """Return the result of `parse` for the text of the field. Raises InvalidSpec with the field's path if `parse` does."""
        text = self.get(name, str, default)
        try:
            return parse(text)
        except InvalidSpec as error:
            raise InvalidSpec(f"{self.path}.{name}: {error.message}") from None

    def quantity(self, name: str) -> str | None:
        """Return a quantity as text; None if it is absent. The schema also admits numbers, which are converted to text."""
        value = self.raw.get(name)
        return str(value) if isinstance(value, int) else self.optional(name, str)

    def choice(self, name: str, choices: type[T], default: T) -> T:
        """Return the field as a member of the Enum `choices`, or `default` if it is absent.

        Raises InvalidSpec if the value is not a member.
        """
        value = self.raw.get(name)
        if value is None:
            return default
        try:
            return choices(value)  # type: ignore[call-arg]  # an Enum class called with a value
        except ValueError:
            raise InvalidSpec(f"{self.path}.{name}: {value!r} is not supported") from None

    def section(self, name: str) -> "Fields":
        """Return a nested mapping as Fields; an empty one if it is absent."""
        return Fields(self.get(name, dict, {}), f"{self.path}.{name}")
