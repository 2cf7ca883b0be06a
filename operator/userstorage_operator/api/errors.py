"""What can go wrong, sorted by what to do about it.

OperatorError            reason, message; `retry` says which
├── InvalidSpec          the object itself is wrong: wait for a change
├── NameConflict         somebody else's object has our name: leave it, look again later
├── Contested            others keep changing a child of ours: put it right now and then
├── QuotaExceeded            the namespace has as many of the class as it may: wait for one to go
├── NotLeading           this process may no longer write: another one leads, or may
├── AwaitingGarbageCollection           a child of a UserStorage that is gone: the garbage collector will take it
└── ClusterError         the API server's answer (status, its own words)
    ├── NotFound         404
    ├── AlreadyExists    409 on create
    ├── Conflict         409 elsewhere: the object moved on under us; look again now
    ├── Refused          400, 403, 413, 422: the server understood and said no
    │   └── GrowthRefused    to let a claim grow
    └── Unavailable      429, 5xx, time-outs, connections: the server could not
"""

from enum import Enum


class Retry(Enum):
    """When the same key is worth another try."""

    BACKOFF = "backoff"
    """After a growing pause: nothing tells us when the cause goes away."""
    ON_CHANGE = "on change"
    """Not before the object changes: the same input would fail the same way for ever."""


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
    """A field has a value that the schema should have refused, or that this version does not serve."""

    reason = "InvalidSpec"
    retry = Retry.ON_CHANGE


class NameConflict(OperatorError):
    """An object that is not ours has the name that ours would need."""

    reason = "NameConflict"


class ConflictingController(OperatorError):
    """Somebody changes a child back each time that it is put right: everything else goes on, this waits."""

    reason = "OutOfSync"


class QuotaExceeded(OperatorError):
    """The namespace has `limits.maxPerNamespace` UserStorages of the class before this one."""

    reason = "QuotaExceeded"
    retry = Retry.ON_CHANGE


class NotLeader(OperatorError):
    """Our own code refused a write: that this process leads cannot be proved. It is about to end."""

    reason = "NotLeading"


class AwaitingGarbageCollection(OperatorError):
    """A child of our kind whose UserStorage is gone has the name; nobody needs to do anything but wait."""

    reason = "WaitingForGarbageCollection"


class ClusterError(OperatorError):
    """The API server answered with an error, or not at all (status 0)."""

    reason = "APIError"

    def __init__(self, status: int, message: str, reason: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, reason)
        self.status = status
        self.retry_after = retry_after
        """Seconds the server asked us to wait."""


class NotFound(ClusterError):
    """404."""


class AlreadyExists(ClusterError):
    """409 on create: an object of that name is there."""


class Conflict(ClusterError):
    """409 on change or deletion: a precondition (uid, resourceVersion, JSON patch test) did not hold."""


class Refused(ClusterError):
    """The server understood the request and said no: rights, quota, admission, validation."""

    reason = "Forbidden"


class GrowthRefused(Refused):
    """The claim may not grow: its StorageClass does not allow it (ExpansionNotSupported), or for any other reason."""


class Unavailable(ClusterError):
    """The server could not answer: overloaded, failing, unreachable or too slow."""

    reason = "APIUnavailable"
