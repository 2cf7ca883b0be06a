"""Error responses of the HTTP API as `application/problem+json` (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web


class Problem(Exception):
    """An error response with a status of 400 or more. `members` are additional fields of its JSON, such as `parameter`."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    def response(self) -> web.Response:
        """Return the HTTP response that describes this problem."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.members,
        }
        headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **self.headers}
        return web.Response(status=self.status, body=orjson.dumps(body), headers=headers)


def bad_parameter(name: str, detail: str) -> Problem:
    """Return a Problem 400 about the parameter `name` of the query string or the URL path."""
    return Problem(400, f"{name}: {detail}", parameter=name)


def unavailable(detail: str, retry_after: float | None = None) -> Problem:
    """Return a Problem 503. The caller should try again after `retry_after` seconds; None means one second."""
    return Problem(503, detail, {"Retry-After": str(max(1, round(retry_after or 1)))})
