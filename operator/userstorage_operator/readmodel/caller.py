"""Who asks this process for something, as the API server knows them, and what they would have to be allowed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Caller:
    """A user of the cluster, in the fields of TokenReview and SubjectAccessReview."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Access:
    """Reading UserStorages: all of all namespaces, all of one namespace, or one by name."""

    verb: Literal["get", "list"]
    namespace: str | None = None
    name: str | None = None

    def wider(self) -> "Iterator[Access]":
        """What permits this, the widest first and this itself last. Few ask for the same name, but all that one who may
        read everything asks for is permitted by one review.
        """
        yield Access(self.verb)
        if self.namespace is not None:
            yield Access(self.verb, self.namespace)
        if self.name is not None:
            yield self

    def __str__(self) -> str:
        where = f"in namespace {self.namespace!r}" if self.namespace is not None else "in all namespaces"
        return f"{self.verb} userstorages.userstorage.dev {where}"


@dataclass(frozen=True, slots=True)
class PathAccess:
    """Reading what this process tells at a path; to the API server a `nonResourceURL`."""

    path: str

    def wider(self) -> "Iterator[PathAccess]":
        """Nothing but this permits it."""
        yield self

    def __str__(self) -> str:
        return f"get {self.path}"
