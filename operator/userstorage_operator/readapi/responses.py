"""JSON responses of the read API, with the age of the data and a strong ETag. A caller that already has the body gets status
304.
"""

import hashlib

import orjson
from aiohttp import web

from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.readapi.parameters import continue_token
from userstorage_operator.readmodel.query import Aged, Page

_CACHE_CONTROL = "private, no-cache"
"""A caller may store a response, but must revalidate it by its ETag; shared caches must not store it."""


def item_response(request: web.Request, response: Aged[Unstructured]) -> web.Response:
    """Return the HTTP response to `request` with one UserStorage."""
    return _json_response(request, {"metadata": _metadata(response), "item": response.value}, int(response.age))


def list_response(request: web.Request, response: Aged[Page]) -> web.Response:
    """Return the HTTP response to `request` with a page of UserStorages."""
    metadata, page = _metadata(response), response.value
    if page.more_after is not None:
        metadata["continue"] = continue_token(page.more_after)
    return _json_response(request, {"metadata": metadata, "items": page.summaries}, int(response.age))


def _metadata(response: Aged[Unstructured] | Aged[Page]) -> Unstructured:
    return {"ageSeconds": int(response.age), "stale": response.stale}


def _json_response(request: web.Request, content: Unstructured, age: int) -> web.Response:
    body = orjson.dumps(content)
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {"ETag": etag, "Age": str(age), "Cache-Control": _CACHE_CONTROL}
    if (if_none_match := request.headers.get("If-None-Match")) is not None and etag_matches(if_none_match, etag):
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = "application/json"
    return web.Response(body=body, headers=headers)


def etag_matches(if_none_match: str, etag: str) -> bool:
    """Whether the header If-None-Match matches the ETag by weak comparison (RFC 9110, section 13.1.2)."""
    return if_none_match.strip() == "*" or any(known.strip().removeprefix("W/") == etag for known in if_none_match.split(","))
