"""What a pass needs from the outside. kube and watch fit these shapes; reconcile knows neither."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from userstorage_operator.domain.events import News
from userstorage_operator.domain.fields import Object
from userstorage_operator.domain.resources import Kind, Resource
from userstorage_operator.domain.storage import Key
from userstorage_operator.domain.world import Children


class Cluster(Protocol):
    """The API server, live. Every call raises a ClusterError where it fails."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """The live object."""

    async def list_all(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> tuple[list[Object], str]:
        """The live objects, and the version of the list."""

    async def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        """The object as it was made."""

    async def merge_patch(
        self, resource: Resource, namespace: str | None, name: str, patch: Object, subresource: str | None = None
    ) -> Object:
        """The object after the patch."""

    async def json_patch(self, resource: Resource, namespace: str, name: str, patch: list[Object]) -> Object:
        """The object after the patch; Conflict where a test fails."""

    async def delete(
        self, resource: Resource, namespace: str, name: str, uid: str, grace_period: int, propagation: str
    ) -> Object:
        """The object in its last moments, or a Status."""


class Recorder(Protocol):
    """Events for people; best effort."""

    def tell(self, regarding: Object, told: News) -> None:
        """Tell of an object as the API server sent it. Takes no time and never fails."""


class Views(Protocol):
    """What the watches have seen, for reading without a request."""

    def storage(self, key: Key) -> Object | None:
        """The UserStorage."""

    def first_of_user(self, namespace: str, user_id: str, children: Children) -> Object | None:
        """Which of the user's UserStorages comes first: one that has the children, else the oldest."""

    def in_namespace(self, namespace: str) -> Collection[Object]:
        """All UserStorages of the namespace."""

    def same_claim(self, namespace: str, claim: str) -> Iterable[Object]:
        """All UserStorages of the namespace whose files are on that claim."""

    def classes(self) -> Iterable[Object]:
        """All classes."""

    def binding_modes(self) -> Mapping[str, str]:
        """The volumeBindingMode of every StorageClass."""

    def pods_on(self, namespace: str, claim: str) -> Iterable[Object]:
        """The pods of the namespace that carry our label and mount the claim."""

    def children(self, namespace: str, name: str) -> Children:
        """The objects of that name that carry our label."""

    def serves(self, kind: Kind) -> bool:
        """Whether the API server knows the kind."""

    def same_place(self, key: Key) -> Iterable[Object]:
        """The first UserStorage of each other user that wants the host and path of this one."""

    def let_go(self, key: Key, claim: str) -> None:
        """Have those asked again who share the claim with this one, which has no pod on it any more."""

    def put(self, resource: Resource, obj: Object) -> None:
        """Take in the answer to our own write."""

    def discard(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Take in that the API server says it is gone."""
