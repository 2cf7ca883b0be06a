"""TokenReview and SubjectAccessReview: the API server authenticates and authorizes the callers of this process."""

from collections.abc import Sequence

from userstorage_operator.api.resources import ACCESS_REVIEWS, TOKEN_REVIEWS, USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.readmodel.caller import Access, Caller, PathAccess


class KubeReviews:
    """Implements the interface `readapi.ports.Reviews`. A token is accepted if it has one of `audiences`; if `audiences` is
    empty, if it has that of the API server.
    """

    def __init__(self, client: KubeClient, audiences: Sequence[str]) -> None:
        self._client = client
        self._audiences = list(audiences)

    async def caller(self, token: str) -> Caller | None:
        """Return the user that the API server authenticates by the bearer token; None if the token is invalid or has no
        accepted audience.
        """
        status = await self._review(TOKEN_REVIEWS, {"token": token, "audiences": self._audiences})
        if not status.get("authenticated"):
            return None
        if self._audiences and not set(self._audiences).intersection(status.get("audiences") or ()):
            return None  # an authenticator that ignores audiences leaves their check to us
        user = status["user"]
        return Caller(
            username=user["username"],
            uid=user.get("uid", ""),
            groups=tuple(user.get("groups") or ()),
            extra={name: tuple(values) for name, values in (user.get("extra") or {}).items()},
        )

    async def allows(self, caller: Caller, access: Access | PathAccess) -> bool:
        """Whether the API server allows this access to the caller. An Access without a namespace means all namespaces; one
        without a name means all objects.
        """
        subject = {
            "user": caller.username,
            "uid": caller.uid,
            "groups": list(caller.groups),
            "extra": {name: list(values) for name, values in caller.extra.items()},
        }
        status = await self._review(ACCESS_REVIEWS, subject | _attributes(access))
        return bool(status.get("allowed")) and not status.get("denied")

    async def _review(self, resource: Resource, spec: Unstructured) -> Unstructured:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "spec": spec}
        status: Unstructured = (await self._client.create(resource, "", body)).get("status") or {}
        return status


def _attributes(access: Access | PathAccess) -> Unstructured:
    if isinstance(access, PathAccess):
        return {"nonResourceAttributes": {"path": access.path, "verb": "get"}}
    attributes = {
        "group": USER_STORAGES.group,
        "version": USER_STORAGES.version,
        "resource": USER_STORAGES.plural,
        "verb": access.verb,
        "namespace": access.namespace or "",
        "name": access.name or "",
    }
    return {"resourceAttributes": attributes}
