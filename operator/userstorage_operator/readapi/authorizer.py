"""Authenticates and authorizes callers by TokenReview and SubjectAccessReview, whose results are cached for a few seconds."""

import hashlib
from functools import partial

import structlog

from userstorage_operator.api.errors import ClusterError
from userstorage_operator.readapi.ports import Reviews
from userstorage_operator.readapi.problems import Problem, unavailable
from userstorage_operator.readapi.review_cache import GRACE, ReviewCache
from userstorage_operator.readapi.review_lane import NotAsked
from userstorage_operator.readmodel.caller import Access, Caller, PathAccess

log = structlog.get_logger(__name__)


class Authorizer:
    """Checks the token and the permissions of a caller. Every refusal is raised as the Problem to respond with. Tokens are
    stored only as hashes.
    """

    def __init__(self, reviews: Reviews, grace: float = GRACE) -> None:
        """`grace`: seconds for which an expired positive review is still used while the API server is unavailable."""
        self._reviews = reviews
        self._callers: ReviewCache[Caller | None] = ReviewCache(grace=grace)
        self._rights: ReviewCache[bool] = ReviewCache(grace=grace)

    async def caller(self, authorization: str | None, address: str | None) -> Caller:
        """Return the caller to whom the bearer token in the header `Authorization` belongs. `address` is the IP address of the
        client. Raises Problem 401 if the token is missing or not valid, and 503 if it cannot be checked.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("a bearer token is required", "Bearer")
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        try:
            caller = await self._callers.get(digest, lambda: self._reviews.caller(token), address)
        except ClusterError as error:
            raise _review_failed("the token", error) from error
        if caller is None:
            raise _unauthorized("the token is not valid for this API", 'Bearer error="invalid_token"')
        return caller

    async def authorize(self, caller: Caller, access: Access | PathAccess) -> None:
        """Check that the caller has the permission `access`. Raises Problem 403 if not, and 503 if the permission cannot be
        checked. Whether the requested object exists makes no difference.
        """
        # First a permission that the caller had a moment ago: a wider one may never have been granted, and asking for it again
        # would fail while the API server is unavailable.
        candidates: list[Access | PathAccess] = [*access.wider()]
        candidates.sort(key=lambda wider: not self._rights.knows((caller, wider)))
        try:
            for wider in candidates:
                if await self._rights.get((caller, wider), partial(self._reviews.allows, caller, wider), caller):
                    return
        except ClusterError as error:
            raise _review_failed("the permissions of the caller", error) from error
        raise Problem(403, f"user {caller.username!r} is not allowed to {access}")


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, detail, {"WWW-Authenticate": challenge})


def _review_failed(subject: str, error: ClusterError) -> Problem:
    """Return a Problem 503 for a failed review. The API server's error is only logged, since the caller is not authenticated
    yet. A review that was not requested is not logged either, since a flood of requests would write as many log lines.
    """
    if not isinstance(error, NotAsked):
        log.warning("review_failed", why=subject, error_kind=error.reason, error=error.message, code=error.status)
    return unavailable(f"the API server could not check {subject}; try again later", error.retry_after)
