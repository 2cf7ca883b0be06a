"""Who asks, and whether they may: bearer tokens and rights, both by the API server's word and remembered for seconds."""

import hashlib
from functools import partial

import structlog

from userstorage_operator.api.errors import ClusterError
from userstorage_operator.readapi.ports import Reviews
from userstorage_operator.readapi.problems import Problem, unavailable
from userstorage_operator.readapi.review_cache import GRACE, ReviewCache
from userstorage_operator.readmodel.caller import Access, Caller, PathAccess

log = structlog.get_logger(__name__)


class Authorizer:
    """Lets a request through, or raises the Problem that it is answered with. Tokens are kept as hashes only."""

    def __init__(self, reviews: Reviews, grace: float = GRACE) -> None:
        """`grace`: seconds for which a yes lives on while the API server cannot be asked."""
        self._reviews = reviews
        self._callers: ReviewCache[Caller | None] = ReviewCache(grace=grace)
        self._rights: ReviewCache[bool] = ReviewCache(grace=grace)

    async def caller(self, authorization: str | None) -> Caller:
        """Who sent the header `Authorization`. Raises Problem 401 or 503."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("a bearer token is needed", "Bearer")
        digest = hashlib.sha256(token.encode(errors="surrogateescape")).digest()
        try:
            caller = await self._callers.get(digest, lambda: self._reviews.caller(token))
        except ClusterError as error:
            raise _unchecked("the token", error) from error
        if caller is None:
            raise _unauthorized("the token is not valid here", 'Bearer error="invalid_token"')
        return caller

    async def authorize(self, caller: Caller, access: Access | PathAccess) -> None:
        """Raises Problem 403 or 503, the same whether or not there is what is asked for."""
        try:
            for wider in access.wider():
                if await self._rights.get((caller, wider), partial(self._reviews.allows, caller, wider)):
                    return
        except ClusterError as error:
            raise _unchecked("the rights of the caller", error) from error
        raise Problem(403, f"{caller.username!r} may not {access}")


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, detail, {"WWW-Authenticate": challenge})


def _unchecked(what: str, error: ClusterError) -> Problem:
    """The API server's own words are for the log: whoever asks is not known yet."""
    log.warning("review_failed", why=what, error_kind=error.reason, error=error.message, code=error.status)
    return unavailable(f"the API server could not be asked about {what}", error.retry_after)
