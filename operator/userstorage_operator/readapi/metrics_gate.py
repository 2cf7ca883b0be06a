"""Who may read `/metrics`, where that is asked: whoever may `get` that path by the cluster's own rights."""

from aiohttp import web

from userstorage_operator.readapi.authorizer import Authorizer
from userstorage_operator.readapi.ports import Reviews
from userstorage_operator.readapi.problems import Problem
from userstorage_operator.readmodel.caller import PathAccess

_ACCESS = PathAccess("/metrics")
_GRACE = 3600.0
"""Seconds. An API server that is away is what the metrics are to tell of, and they name no user."""


class MetricsGate:
    """Satisfies `runtime.http.Gate`."""

    def __init__(self, reviews: Reviews) -> None:
        self._authorizer = Authorizer(reviews, _GRACE)

    async def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to one who may not; None for one who may."""
        try:
            caller = await self._authorizer.caller(request.headers.get("Authorization"))
            await self._authorizer.authorize(caller, _ACCESS)
        except Problem as problem:
            return problem.response()
        return None
