"""The read API as an aiohttp application, to be mounted at /v1."""

from collections.abc import Collection

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.userstorage import Key
from userstorage_operator.readapi import parameters, responses
from userstorage_operator.readapi.authorizer import Authorizer
from userstorage_operator.readapi.openapi import document
from userstorage_operator.readapi.ports import Reviews
from userstorage_operator.readapi.problems import Problem, unavailable
from userstorage_operator.readmodel.caller import Access
from userstorage_operator.readmodel.query import Aged, Page, Query, StorageReader

log = structlog.get_logger(__name__)


class ReadApi:
    """The handlers of the routes of the read API. `namespaces` are those that this operator serves; empty means all."""

    def __init__(self, reader: StorageReader, reviews: Reviews, namespaces: Collection[str], version: str) -> None:
        self._reader = reader
        self._authorizer = Authorizer(reviews)
        self._namespaces = frozenset(namespaces)
        self._document = orjson.dumps(document(version))

    def application(self) -> web.Application:
        """Return the aiohttp application with all routes, relative to the URL path at which it is mounted. Every error is a
        `problem+json` response.
        """
        app = web.Application(middlewares=[_problems_as_responses])
        app.router.add_get("/openapi.json", self._openapi)
        app.router.add_get("/userstorages", self._list)
        app.router.add_get("/namespaces/{namespace}/userstorages/{name}", self._get)
        app.router.add_get("/users/{userID:[^/]+}", self._list_of_user)  # by default, a variable has no braces
        return app

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type="application/json")

    async def _list(self, request: web.Request) -> web.Response:
        caller = await self._authorizer.caller(request.headers.get("Authorization"), request.remote)
        query = parameters.list_query(request.query.items())
        await self._authorizer.authorize(caller, Access("list", query.namespace))
        self._check_served(query.namespace)
        return responses.list_response(request, await self._page(query))

    async def _get(self, request: web.Request) -> web.Response:
        caller = await self._authorizer.caller(request.headers.get("Authorization"), request.remote)
        namespace = parameters.namespace(request.match_info["namespace"])
        name = parameters.name(request.match_info["name"])
        parameters.reject_all(request.query.items())
        await self._authorizer.authorize(caller, Access("get", namespace, name))
        self._check_served(namespace)
        try:
            response = await self._reader.one(Key(namespace, name))
        except ClusterError as error:
            raise unavailable(error.message, error.retry_after) from error
        if response.value is None:
            raise Problem(404, f"UserStorage {name!r} not found in namespace {namespace!r}")
        return responses.item_response(request, Aged(response.value, response.age, response.stale))

    async def _list_of_user(self, request: web.Request) -> web.Response:
        caller = await self._authorizer.caller(request.headers.get("Authorization"), request.remote)
        user = parameters.user(request.match_info["userID"], "userID")
        query = parameters.user_query(user, request.query.items())
        await self._authorizer.authorize(caller, Access("list"))
        response = await self._page(query)
        if not response.value.summaries and query.after is None:
            raise Problem(404, f"user {user!r} has no UserStorage")
        return responses.list_response(request, response)

    async def _page(self, query: Query) -> Aged[Page]:
        try:
            return await self._reader.page(query)
        except ClusterError as error:
            raise unavailable(error.message, error.retry_after) from error

    def _check_served(self, namespace: str | None) -> None:
        if self._namespaces and namespace is not None and namespace not in self._namespaces:
            raise Problem(404, f"namespace {namespace!r} is not served by this operator")


@web.middleware
async def _problems_as_responses(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except web.HTTPMethodNotAllowed as error:
        allowed = {"Allow": error.headers["Allow"]}
        return Problem(405, f"{request.method} is not allowed: this API is read-only", allowed).response()
    except web.HTTPNotFound:
        return Problem(404, f"no resource at {request.path}").response()
    except Exception:  # a bug: the caller gets the same format as for every other error
        log.exception("read_api_crashed", action=f"{request.method} {request.match_info.route.resource}")
        return Problem(500, "internal error; see the operator's log").response()
