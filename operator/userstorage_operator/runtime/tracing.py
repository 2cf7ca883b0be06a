"""What a pass tells whoever traces it. Who does so for OpenTelemetry is in `otel.py`, loaded only where it is asked for."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

_NOTHING = nullcontext()


class Tracer(Protocol):
    """Told of each pass and, from within, of its requests and its end."""

    def reconcile(self, name: str) -> AbstractContextManager[None]:
        """Around one pass, with `reconcile_id` bound for its log lines."""

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """How the pass ended."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """A call to the API server has been answered, in a pass or elsewhere."""

    async def close(self) -> None:
        """Send what is left, for a moment at most."""


class NoopTracer:
    """Nobody traces."""

    def reconcile(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002  # as Tracer has it
        """Nothing."""
        return _NOTHING

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """Nothing."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


NOOP_TRACER = NoopTracer()
