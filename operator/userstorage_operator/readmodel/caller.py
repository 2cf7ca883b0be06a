"""A caller of the read API, as the API server has identified it, and the permission that a request needs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Caller:
    """A user or service account of the cluster, with the fields that TokenReview returns and SubjectAccessReview needs."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Access:
    """Permission to read UserStorages: all in the cluster, all in one namespace, or one by its name."""

    verb: Literal["get", "list"]
    namespace: str | None = None
    name: str | None = None

    def wider(self) -> "Iterator[Access]":
        """Yield the permissions that include this one, the widest first and this one last.

        The result of a review is cached, and callers rarely ask for the same name twice. A caller that may read everything
        needs only one review, that of the widest permission.
        """
        yield Access(self.verb)
        if self.namespace is not None:
            yield Access(self.verb, self.namespace)
        if self.name is not None:
            yield self

    def __str__(self) -> str:
        scope = f"in namespace {self.namespace!r}" if self.namespace is not None else "in all namespaces"
        return f"{self.verb} userstorages.userstorage.dev {scope}"


@dataclass(frozen=True, slots=True)
class PathAccess:
    """Permission to GET an HTTP path that this process serves, such as `/metrics`; in RBAC a `nonResourceURL`."""

    path: str

    def wider(self) -> "Iterator[PathAccess]":
        """Yield only this permission: no other one includes it."""
        yield self

    def __str__(self) -> str:
        return f"get {self.path}"
