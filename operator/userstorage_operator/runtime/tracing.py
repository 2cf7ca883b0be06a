"""The interface for tracing reconciles. `otel.py` implements it for OpenTelemetry and is imported only if tracing is enabled."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

_NOOP = nullcontext()


class Tracer(Protocol):
    """Records each reconcile with its requests to the API server and its result."""

    def reconcile(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager inside of which one reconcile runs. `name` is the name of its span. The log field
        `reconcile_id` is already set.
        """

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """Record the result of the current reconcile. `reason` is "success" or the reason of the failure, `error` its message,
        and `action` the failed write; the last two are empty if there is none.
        """

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Record a finished request to the API server, inside or outside of a reconcile."""

    async def close(self) -> None:
        """Send the spans that are not sent yet; takes a few seconds at most."""


class NoopTracer:
    """A Tracer that records nothing, for a process without tracing."""

    def reconcile(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002  # as Tracer has it
        """Return a context manager that has no effect."""
        return _NOOP

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """Ignore the result: nothing is traced."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Ignore the request: nothing is traced."""

    async def close(self) -> None:
        """Return at once: there are no spans to send."""


NOOP_TRACER = NoopTracer()
