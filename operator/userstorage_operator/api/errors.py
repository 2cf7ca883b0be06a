"""The expected failures, grouped by how to react to each.

OperatorError                    reason and message; `retry` says when to try again
├── InternalError                a fault of the operator itself: its log has the traceback
├── InvalidSpec                  the object itself is wrong: wait for a change
├── NameConflict                 a foreign object has the name of a child: leave it, check again later
├── QuotaExceeded                the namespace has the maximum number of the class: wait until one is deleted
├── NotLeader                    this process may no longer write: another one is, or may be, the leader
├── AwaitingGarbageCollection    a child of a deleted UserStorage still exists: wait for the garbage collector
└── ClusterError                 an error response of the API server (status and message)
    ├── NotFound                 404
    ├── AlreadyExists            409 on create
    ├── Conflict                 409 otherwise: the object has changed meanwhile; reconcile again
    ├── Refused                  400, 403, 413, 422: the server understood the request and refused it
    │   └── GrowthRefused        it refused to expand a claim
    └── Unavailable              429, 5xx, time-outs, connection errors: the server, or a webhook that it asks, could not answer
"""

from enum import Enum


class Retry(Enum):
    """When to reconcile the same key again after an OperatorError."""

    BACKOFF = "backoff"
    """After increasing delays: no watch event reports that the cause has gone."""
    ON_CHANGE = "on change"
    """Only when a watch event requeues the key: without a change, a retry would fail in the same way."""


class OperatorError(Exception):
    """An expected failure: `reason` is a condition reason (PascalCase), `message` is for people."""

    reason = "InternalError"
    retry = Retry.BACKOFF

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class InternalError(OperatorError):
    """A fault of the operator. The message is for the status; the log gets the exception."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__} in the operator; its log has the traceback")
        self.cause = cause


class InvalidSpec(OperatorError):
    """A field has a value that the schema should have refused, or that this version of the operator does not support."""

    reason = "InvalidSpec"
    retry = Retry.ON_CHANGE


class NameConflict(OperatorError):
    """A foreign object has the name of a child of the UserStorage."""

    reason = "NameConflict"


class QuotaExceeded(OperatorError):
    """The namespace has `limits.maxPerNamespace` UserStorages of the class, and all of them take precedence over this one."""

    reason = "QuotaExceeded"
    retry = Retry.ON_CHANGE


class NotLeader(OperatorError):
    """The operator itself refused a write, as it cannot prove that this process is the leader. The process is about to exit."""

    reason = "NotLeading"


class AwaitingGarbageCollection(OperatorError):
    """A child of a deleted UserStorage still has the name that a new child needs. The garbage collector will delete it."""

    reason = "WaitingForGarbageCollection"


class ClusterError(OperatorError):
    """The API server answered with an error, or did not answer (status 0)."""

    reason = "APIError"

    def __init__(self, status: int, message: str, reason: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, reason)
        self.status = status
        self.retry_after = retry_after
        """Seconds that the server asked the client to wait; None if it did not."""


class NotFound(ClusterError):
    """404: the object, or its kind, does not exist."""


class AlreadyExists(ClusterError):
    """409 on create: an object of that name exists."""


class Conflict(ClusterError):
    """409 on update or delete: a precondition (uid, resourceVersion, JSON patch test) did not hold."""


class Refused(ClusterError):
    """The server understood the request and refused it: permissions, quota, admission, validation."""

    reason = "Forbidden"


class GrowthRefused(Refused):
    """The API server refused to expand a claim: the StorageClass forbids it (ExpansionNotSupported), or for another reason."""


class Unavailable(ClusterError):
    """The server could not answer: overloaded, failing, unreachable or too slow."""

    reason = "APIUnavailable"
