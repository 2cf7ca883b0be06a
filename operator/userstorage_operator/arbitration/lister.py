"""What the caches hold, for reading without a request (client-go's Lister)."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from userstorage_operator.api.resources import Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.observed.snapshot import Children


class Lister(Protocol):
    """What the watches have seen, for reading without a request."""

    def storage(self, key: Key) -> Unstructured | None:
        """The UserStorage."""

    def first_of_user(self, namespace: str, user_id: str, children: Children) -> Unstructured | None:
        """Which of the user's UserStorages comes first: one that has the children, else the oldest."""

    def in_namespace(self, namespace: str) -> Collection[Unstructured]:
        """All UserStorages of the namespace."""

    def same_claim(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """All UserStorages of the namespace whose files are on that claim."""

    def classes(self) -> Iterable[Unstructured]:
        """All classes."""

    def binding_modes(self) -> Mapping[str, str]:
        """The volumeBindingMode of every StorageClass."""

    def pods_on(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """The pods of the namespace that carry our label and mount the claim."""

    def children(self, namespace: str, name: str) -> Children:
        """The objects of that name that carry our label."""

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""

    def same_host(self, key: Key) -> Iterable[Unstructured]:
        """The first UserStorage of each other user that wants the host and path of this one."""

    def claim_released(self, key: Key, claim: str) -> None:
        """Have those asked again who share the claim with this one, which has no pod on it any more."""

    def put(self, resource: Resource, obj: Unstructured) -> None:
        """Take in the answer to our own write."""

    def discard(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Take in that the API server says it is gone."""
