"""OpenTelemetry traces of reconciles, sent by OTLP over HTTP.

Each reconcile that sends a request or fails is a span; each of its requests to the API server is a child span.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from userstorage_operator.runtime.redaction import clean_fields, clean_text

SERVICE = "userstorage-operator"
_SHUTDOWN_TIMEOUT = 3.0
"""Maximum seconds for sending the remaining spans at exit: an unreachable collector must not delay the next leader."""
_REQUESTS = "requests"
"""Name of the attribute of a reconcile's span that has the number of its requests to the API server."""


class OtelTracer:
    """Implements `runtime.tracing.Tracer`. OpenTelemetry's own environment variables set further options."""

    def __init__(self, endpoint: str, version: str, instance: str) -> None:
        """`endpoint` is the URL of the OpenTelemetry collector without `/v1/traces`. `version` and `instance` name this process
        in all spans.
        """
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # otherwise it logs each of its retries
        resource = {"service.name": SERVICE, "service.version": version, "service.instance.id": instance}
        self._provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
        self._provider.add_span_processor(_RelevantSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer(SERVICE, version)

    @contextmanager
    def reconcile(self, name: str) -> Iterator[None]:
        """Trace the reconcile that runs inside this context manager as a span, and add `trace_id` to its log lines."""
        with self._tracer.start_as_current_span(name, attributes={_REQUESTS: 0}) as span:
            structlog.contextvars.bind_contextvars(trace_id=f"{span.get_span_context().trace_id:032x}")
            yield

    def reconciled(self, reason: str, error: str, action: str) -> None:
        """Set the attributes of the current reconcile's span to the fields of its log lines. If `error` is not empty, add
        `reason`, `error` and `action`, and mark the span as failed.
        """
        span = trace.get_current_span()
        fields = {field: value for field, value in structlog.contextvars.get_contextvars().items() if field != "trace_id"}
        if error:
            fields |= {"error_kind": reason, "error": error, "action": action}
            span.set_status(StatusCode.ERROR, clean_text(error))
        span.set_attributes({field: value for field, value in clean_fields(fields).items() if value != ""})

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Add a child span for a finished request to the API server. A request that was sent outside of a reconcile is ignored."""
        parent = trace.get_current_span()
        if not isinstance(parent, Span):
            return
        parent.set_attribute(_REQUESTS, cast("int", (parent.attributes or {})[_REQUESTS]) + 1)
        now = time.time_ns()
        attributes: dict[str, str | int] = {"verb": verb, "resource": resource, "code": code}
        span = self._tracer.start_span(
            f"{verb} {resource}", kind=SpanKind.CLIENT, attributes=attributes, start_time=now - int(seconds * 1e9)
        )
        if not 0 < code < 400:
            span.set_status(StatusCode.ERROR)
        span.end(now)

    async def close(self) -> None:
        """Send the remaining spans. Return after three seconds at the latest, even if some could not be sent."""
        shutdown = threading.Thread(target=self._provider.shutdown, daemon=True)
        shutdown.start()
        await asyncio.to_thread(shutdown.join, _SHUTDOWN_TIMEOUT)


class _RelevantSpanProcessor(BatchSpanProcessor):
    """Exports all spans except those of reconciles that sent no request and did not fail: a sweep causes thousands of
    them.
    """

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span for export, unless its reconcile sent no request and did not fail."""
        if (span.attributes or {}).get(_REQUESTS) != 0 or span.status.status_code is StatusCode.ERROR:
            super().on_end(span)
