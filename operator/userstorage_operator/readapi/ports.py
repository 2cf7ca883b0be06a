"""The interface that the read API needs besides `readmodel.query.StorageReader`. Implemented by `kube.reviews`."""

from typing import Protocol

from userstorage_operator.readmodel.caller import Access, Caller, PathAccess


class Reviews(Protocol):
    """Authenticates and authorizes callers by reviews of the API server. Every call raises a ClusterError if the review fails."""

    async def caller(self, token: str) -> Caller | None:
        """Return the user to whom the bearer token belongs; None if the token is not valid, or is for another audience."""

    async def allows(self, caller: Caller, access: Access | PathAccess) -> bool:
        """Whether the caller has the permission `access`."""
