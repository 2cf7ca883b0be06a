"""The interface that the read API needs besides `readmodel.query.StorageReader`. Implemented by `kube.reviews`."""

from typing import Protocol

from userstorage_operator.readmodel.caller import Access, Caller, PathAccess


class Reviews(Protocol):
    """The API server's reviews of callers. Every call raises a ClusterError if the review fails."""

    async def caller(self, token: str) -> Caller | None:
        """Return the user whose bearer token it is; None if the token is not valid, or is for another audience."""

    async def allows(self, caller: Caller, access: Access | PathAccess) -> bool:
        """Whether the caller has the access."""
