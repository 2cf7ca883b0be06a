"""The port through which reconciles are traced. `otel.py`, loaded only if tracing is on, implements it for OpenTelemetry."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

_NOOP = nullcontext()


class Tracer(Protocol):
    """Receives each reconcile and, within its context, its requests and its result."""

    def reconcile(self, name: str) -> AbstractContextManager[None]:
        """Return the context for one reconcile; `reconcile_id` is bound for its log lines."""

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """Record the result of the current reconcile; `reason` is "success" or that of the failure."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Record an answered call to the API server, inside or outside of a reconcile."""

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
