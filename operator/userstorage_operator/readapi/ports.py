"""What the read API needs from the outside, besides `domain.directory.Directory`. kube fits this shape."""

from typing import Protocol

from userstorage_operator.readmodel.caller import Access, Caller, PathAccess


class Reviews(Protocol):
    """The API server's word on callers. Every call raises a ClusterError where it cannot be had."""

    async def caller(self, token: str) -> Caller | None:
        """Whose bearer token that is; None where it is not valid, or not meant for us."""

    async def allows(self, caller: Caller, access: Access | PathAccess) -> bool:
        """Whether the caller may read that."""
