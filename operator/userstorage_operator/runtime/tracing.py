"""The interface for tracing reconciles. `otel.py` implements it for OpenTelemetry and is imported only if tracing is enabled."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

_NOOP = nullcontext()


class Tracer(Protocol):
    """Records each reconcile with its requests and its result."""

    def reconcile(self, name: str) -> AbstractContextManager[None]:
        """Return the context manager in which one reconcile runs. The log field `reconcile_id` is already set."""

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """Record the result of the current reconcile; `reason` is "success" or the reason of the failure."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Record a finished call to the API server, inside or outside of a reconcile."""

    async def close(self) -> None:
        """Send the remaining spans; takes a few seconds at most."""


class NoopTracer:
    """Traces nothing."""

    def reconcile(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002  # as Tracer has it
        """Do nothing."""
        return _NOOP

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """Do nothing."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


NOOP_TRACER = NoopTracer()
