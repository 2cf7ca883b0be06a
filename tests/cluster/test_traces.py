"""The spans of reconciles that an OpenTelemetry collector receives over OTLP."""

import gzip
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from localcluster.addresses import free_port
from support.kubectl import WAIT, Kubectl, eventually
from support.logschema import check_line
from support.operator_process import OperatorProcess


class Collector:
    """A collector that stores the spans it receives at /v1/traces on a local port."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
                collector.store(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as the library has it
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def store(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.services.add(attributes(resource.resource)["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def attributes(message: Any) -> dict[str, Any]:
    return {entry.key: getattr(entry.value, entry.value.WhichOneof("value")) for entry in message.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


def user(namespace: str, name: str, **spec: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": metadata, "spec": {"userID": name, **spec}}


@pytest.mark.kwok
def test_each_reconcile_is_a_span_with_child_spans_for_requests(
    api: Kubectl, as_operator: Path, namespace: str, collector: Collector, tmp_path: Path
) -> None:
    options = [f"--namespace={namespace}", f"--otlp-endpoint={collector.endpoint}", "--sweep-period=1"]
    with OperatorProcess(as_operator, tmp_path / "operator.log", *options) as operator:
        operator.start()
        api.apply(user(namespace, "alice"), user(namespace, "bob", className="no-such-class"))
        eventually(lambda: api.phase("alice", namespace) == "Ready")
        eventually(lambda: api.phase("bob", namespace) == "Failed")
        api.run("delete", "us", "--all", "-n", namespace, WAIT)
        assert operator.stop() == 0  # the remaining spans are sent before it exits

    assert collector.services == {"userstorage-operator"}
    lines = [check_line(line) for line in operator.log.read_text().splitlines()]
    reconciles = {span.span_id: span for span in collector.spans if not span.parent_span_id}
    assert {span.name for span in reconciles.values()} == {"reconcile UserStorage"}
    children: dict[bytes, list[Span]] = {span_id: [] for span_id in reconciles}
    for span in collector.spans:
        if span.parent_span_id:
            parent = reconciles[span.parent_span_id]
            assert span.trace_id == parent.trace_id
            assert (
                parent.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= parent.end_time_unix_nano
            )
            children[span.parent_span_id].append(span)

    # The log line of a write has the trace id of its reconcile, whose span has the request as a child.
    for kind, resource in (("Pod", "pods"), ("PersistentVolumeClaim", "persistentvolumeclaims"), ("Service", "services")):
        [line] = [line for line in lines if line.get("action") == f"create {kind}" and line["name"] == "alice"]
        [reconcile] = [span for span in reconciles.values() if span.trace_id.hex() == line["trace_id"]]
        recorded = attributes(reconcile)
        assert {field: recorded[field] for field in ("reconcile_id", "namespace", "name", "uid", "user_id")} == {
            field: line[field] for field in ("reconcile_id", "namespace", "name", "uid", "user_id")
        }
        [request] = [span for span in children[reconcile.span_id] if span.name == f"create {resource}"]
        assert attributes(request) == {"verb": "create", "resource": resource, "code": 200}
        assert recorded["requests"] == len(children[reconcile.span_id])

    [failed, *_] = [span for span in reconciles.values() if attributes(span)["name"] == "bob" and span.status.code]
    assert failed.status.code == Status.STATUS_CODE_ERROR
    recorded = attributes(failed)
    [line] = [
        line for line in lines if line["event"] == "reconcile_failed" and line["reconcile_id"] == recorded["reconcile_id"]
    ]
    assert (recorded["error_kind"], recorded["error"]) == (line["error_kind"], line["error"])
    assert recorded["error_kind"] == "ClassNotFound"

    # The sweep reconciles alice every second; a reconcile without requests is not exported.
    assert all(children[span_id] or span.status.code for span_id, span in reconciles.items())


def test_unreachable_collector_does_not_delay_operator(
    api: Kubectl, as_operator: Path, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    options = [f"--namespace={namespace}", f"--otlp-endpoint=http://127.0.0.1:{free_port()}"]
    with OperatorProcess(as_operator, tmp_path / "operator.log", *options) as operator:
        operator.start()
        api.apply(user(namespace, "alice"))
        eventually(lambda: api.get("pod", "user-storage-alice", namespace) is not None)
        eventually(lambda: "Failed to export" in operator.log.read_text())
        api.run("delete", "us", "--all", "-n", namespace, WAIT)
        assert operator.stop() == 0
    lines = [check_line(line) for line in operator.log.read_text().splitlines()]
    exporter_lines = [line for line in lines if line["logger"].startswith("opentelemetry")]
    assert {line["level"] for line in exporter_lines} == {"error"}
