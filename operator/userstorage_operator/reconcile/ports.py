"""Protocols of the API server and the Event recorder: `kube/` implements them, and `reconcile/` imports only them."""

from collections.abc import AsyncIterator
from typing import Protocol

from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.status.events import StatusEvent


class Cluster(Protocol):
    """The API server. A method raises a ClusterError if its request fails."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """Return the object. Raises NotFound if it does not exist."""

    async def list_all(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> tuple[list[Unstructured], str]:
        """Return the objects for a label selector and a field selector (`fields`), and the resourceVersion of the list."""

    def pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> AsyncIterator[list[Unstructured]]:
        """Yield the objects that match the label selector and the field selector, page by page."""

    async def create(self, resource: Resource, namespace: str, body: Unstructured) -> Unstructured:
        """Create the object and return it as the API server stored it."""

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Unstructured, subresource: str | None = None
    ) -> Unstructured:
        """Apply a JSON merge patch and return the object after it."""

    async def json_patch(self, resource: Resource, namespace: str, name: str, patch: list[Unstructured]) -> Unstructured:
        """Apply a JSON patch and return the object after it. Raises Conflict if a test of the patch fails."""

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        uid: str,
        grace_period: int,
        propagation: str,
        resource_version: str | None = None,
    ) -> Unstructured:
        """Start the deletion of the object with that uid, and that version unless None. Return the terminating object, or a
        Status if it is gone.

        `grace_period` is in seconds.
        """


class DryRunner(Protocol):
    """An API server that validates objects without storing them."""

    async def dry_run(self, resource: Resource, namespace: str, body: Unstructured) -> None:
        """Validate and admit the object as in a creation. Raises Refused if the API server refuses it."""


class Recorder(Protocol):
    """Sends Kubernetes Events; best effort."""

    def record(self, regarding: Unstructured, event: StatusEvent) -> None:
        """Queue an event about the object `regarding`. Return at once; never raise."""
