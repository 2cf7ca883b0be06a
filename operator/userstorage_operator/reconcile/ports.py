"""What a pass needs from the outside. kube and watch fit these shapes; reconcile knows neither."""

from typing import Protocol

from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.status.events import StatusEvent


class Cluster(Protocol):
    """The API server, live. Every call raises a ClusterError where it fails."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """The live object."""

    async def list_all(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> tuple[list[Unstructured], str]:
        """The live objects, and the version of the list."""

    async def create(self, resource: Resource, namespace: str, body: Unstructured) -> Unstructured:
        """The object as it was made."""

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Unstructured, subresource: str | None = None
    ) -> Unstructured:
        """The object after the patch."""

    async def json_patch(self, resource: Resource, namespace: str, name: str, patch: list[Unstructured]) -> Unstructured:
        """The object after the patch; Conflict where a test fails."""

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, grace_period: int, propagation: str
    ) -> Unstructured:
        """The object in its last moments, or a Status."""


class Recorder(Protocol):
    """Events for people; best effort."""

    def record(self, regarding: Unstructured, event: StatusEvent) -> None:
        """Tell of an object as the API server sent it. Takes no time and never fails."""
