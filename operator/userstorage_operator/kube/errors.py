"""Exceptions for error responses of the API server. The class of an exception says how to handle it."""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from userstorage_operator.api.errors import AlreadyExists, ClusterError, Conflict, NotFound, Refused, Unavailable

_REASONS = {"exceeded quota": "QuotaExceeded", "the pvc must support resize": "ExpansionNotSupported"}
"""Part of the server's message -> the reason of the refusal, which the status code does not show."""
_DENIED = re.compile(r"admission webhook .* denied the request|ValidatingAdmissionPolicy .* denied request", re.DOTALL)
"""A webhook chooses any status code from 400 on for its refusal, and an admission policy also 401."""
_WEBHOOK_FAILED = re.compile(
    r"failed calling webhook|admission plugin .* failed to complete|Internal error occurred: jsonpatch"
)
"""The API server itself works, but a webhook did not answer, or with a patch that does not apply."""
_NAMESPACE_TERMINATING = "because it is being terminated"
_NAMESPACE_RETRY = 30.0
"""Seconds until a request that was refused because its namespace is terminating is tried again. A sooner try would be refused
too; and when the UserStorage is deleted, that event requeues it sooner.
"""
_LONGEST_RETRY_AFTER = 60.0
"""Maximum seconds of a Retry-After header that are waited, as long as the longest backoff: a proxy or gateway may ask for days."""


def error_from(status: int, body: bytes, headers: Mapping[str, str]) -> ClusterError:
    """Return the exception for a response with a status code of 400 or more. Its message is that of the API server, cut to 1024
    characters.
    """
    details = _status(body)
    message = str(details.get("message") or body[:200].decode(errors="replace") or f"HTTP {status}")[:1024]
    if _DENIED.search(message):
        return Refused(status, message)
    if _WEBHOOK_FAILED.search(message):
        return Unavailable(status, message, "WebhookFailed")
    if status == 404:
        return NotFound(status, message)
    if status == 409:
        return AlreadyExists(status, message) if details.get("reason") == "AlreadyExists" else Conflict(status, message)
    if status == 429 or status >= 500:
        return Unavailable(status, message, retry_after=_seconds(headers.get("Retry-After")))
    if status in (401, 408):
        return Unavailable(status, message)
    if _NAMESPACE_TERMINATING in message:
        return Refused(status, message, "NamespaceTerminating", retry_after=_NAMESPACE_RETRY)
    return Refused(status, message, next((reason for words, reason in _REASONS.items() if words in message), None))


def _status(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _seconds(text: str | None) -> float | None:
    return min(float(text), _LONGEST_RETRY_AFTER) if text is not None and text.isascii() and text.isdigit() else None
