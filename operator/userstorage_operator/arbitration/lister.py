"""The protocol by which reconciles read the caches, as with client-go's Lister, and put their own writes into them."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from userstorage_operator.api.resources import Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.observed.snapshot import Children


class Lister(Protocol):
    """All objects, in the newest version that a watch or our own write has shown. No method sends a request."""

    def storage(self, key: Key) -> Unstructured | None:
        """Return the UserStorage; None if it does not exist."""

    def in_namespace(self, namespace: str) -> Collection[Unstructured]:
        """Return all UserStorages of the namespace."""

    def user_id_owner(self, namespace: str, user_id: str, children: Children) -> Unstructured | None:
        """Return the UserStorage that owns the user id: the one that has `children`, else the oldest; None if there is none."""

    def sharing_claim(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """Return all UserStorages of the namespace that use the claim for their files."""

    def sharing_host(self, key: Key) -> Iterable[Unstructured]:
        """Return the other UserStorages that want the host and path of this one, if they own their user ids.

        Empty if this one wants no host, or does not own its user id.
        """

    def classes(self) -> Iterable[Unstructured]:
        """Return all UserStorageClasses."""

    def binding_modes(self) -> Mapping[str, str]:
        """Return the volumeBindingMode of each StorageClass by its name."""

    def pods_on(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """Return the pods of the namespace that carry our label and mount the claim."""

    def children(self, namespace: str, name: str) -> Children:
        """Return the objects of this name that carry our label."""

    def serves(self, kind: Kind) -> bool:
        """Whether the API server serves the kind."""

    def claim_released(self, key: Key, claim: str) -> None:
        """Requeue the other UserStorages on the claim, because the pod or the reservation of this one is gone."""

    def put(self, resource: Resource, obj: Unstructured) -> None:
        """Store the response to our own write."""

    def discard(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Remove the object: the API server reported that it does not exist any more."""
