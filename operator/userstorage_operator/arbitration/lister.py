"""The protocol by which reconciles read the caches, as with client-go's Lister, and put their own writes into them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from userstorage_operator.api.resources import Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.directories import Claimant
from userstorage_operator.observed.claim_usage import ClaimUse
from userstorage_operator.observed.snapshot import Children


class Lister(Protocol):
    """The caches: every object in the newest version from a watch or from our own writes. No method sends a request."""

    def storage(self, key: Key) -> Unstructured | None:
        """Return the raw UserStorage `key`; None if it does not exist."""

    def user_id_owner(self, namespace: str, user_id: str, children: Children) -> Unstructured | None:
        """Return the owner of the user id: the UserStorage that controls `children`, else the oldest with this user id.

        None if no UserStorage has it.
        """

    def claimants(self, namespace: str, use: ClaimUse) -> Iterator[Claimant]:
        """Yield the UserStorages that need a claim, own their user id and conflict with `use`, in order of precedence."""

    def is_shareable(self, namespace: str, claim: str) -> bool:
        """Whether the claim exists with the label by which its owner lets UserStorages use it, whatever the value."""

    def claim_mounters(self, namespace: str, use: ClaimUse) -> Iterator[Claimant]:
        """Yield the UserStorages whose pod conflicts with `use`, in order of precedence."""

    def claim_mounter(self, key: Key) -> Claimant | None:
        """Return the UserStorage `key` with the use of a claim by its pod; None if it has no pod."""

    def host_taken(self, key: Key) -> bool:
        """Whether another UserStorage owns the host and path that the UserStorage `key` wants, or an overlapping path.

        False if the UserStorage wants no host, or does not own its user id.
        """

    def take_place(self, raw: Unstructured) -> bool:
        """Whether the UserStorage has, or gets now, a place within `limits.maxPerNamespace` of its class, so that a concurrent
        reconcile cannot take it. True if the class has no limit.
        """

    def classes(self) -> Iterable[Unstructured]:
        """Return all raw UserStorageClasses."""

    def binding_modes(self) -> Mapping[str, str]:
        """Return a mapping from the name of each StorageClass to its volumeBindingMode."""

    def pods_on(self, namespace: str, claim: str) -> Iterable[Unstructured]:
        """Return the pods of the namespace that have our label, or were listed without it, and mount the claim."""

    def children(self, namespace: str, name: str) -> Children:
        """Return the objects with the name of the children that have our label, or were listed without it. They may be foreign."""

    def child(self, kind: Kind, namespace: str, name: str) -> Unstructured | None:
        """Return one of the objects that `children` returns."""

    def controllers(self, namespace: str, name: str) -> frozenset[str]:
        """Return the uids of the controllers of the NetworkPolicy, Service and pod with the name of the children."""

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""

    def claim_released(self, key: Key, use: ClaimUse) -> None:
        """Requeue the other UserStorages that conflict with `use`: the reservation of the UserStorage `key` is gone."""

    def put(self, resource: Resource, obj: Unstructured) -> None:
        """Put `obj`, the response to our own write, into the cache of the resource."""

    def discard(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Remove the object from the cache of the resource: the API server reported that it no longer exists."""
