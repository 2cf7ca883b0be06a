"""Optional authorization of `/metrics`: the cluster's RBAC must grant the caller `get` on this URL path (`nonResourceURLs`)."""

from aiohttp import web

from userstorage_operator.readapi.authorizer import Authorizer
from userstorage_operator.readapi.ports import Reviews
from userstorage_operator.readapi.problems import Problem
from userstorage_operator.readmodel.caller import PathAccess

_ACCESS = PathAccess("/metrics")
_GRACE = 3600.0
"""Seconds for which an expired positive review is still used while the API server is unavailable. The metrics report such an
outage, so they must stay readable during it. They name no user.
"""


class MetricsGate:
    """Authorizes requests to `/metrics`; its method `refusal` is a `runtime.http.Gate`."""

    def __init__(self, reviews: Reviews) -> None:
        self._authorizer = Authorizer(reviews, _GRACE)

    async def refusal(self, request: web.Request) -> web.Response | None:
        """Return the response that refuses the request; None if the caller may read the metrics."""
        try:
            caller = await self._authorizer.caller(request.headers.get("Authorization"), request.remote)
            await self._authorizer.authorize(caller, _ACCESS)
        except Problem as problem:
            return problem.response()
        return None
