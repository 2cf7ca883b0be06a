"""OpenTelemetry is loaded only if traces are on, and a missing extra is reported."""

import subprocess
import sys

import pytest

from userstorage_operator import app
from userstorage_operator.api.errors import OperatorError
from userstorage_operator.config import Config


def test_opentelemetry_is_not_loaded_without_an_endpoint() -> None:
    """Allow OpenTelemetry's API, which the redis package loads if it is installed, but neither SDK nor exporter."""
    code = "import sys, userstorage_operator.cli, userstorage_operator.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "userstorage_operator.runtime.tracing" in loaded
    tracing = ("userstorage_operator.runtime.otel", "opentelemetry.exporter", "opentelemetry.sdk.trace", "google.protobuf")
    assert [name for name in loaded if name.startswith(tracing)] == []


def test_missing_otel_extra_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "userstorage_operator.runtime.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(OperatorError, match=r"--otlp-endpoint: needs userstorage-operator\[otel\]") as caught:
        app._tracer(Config(otlp_endpoint="http://127.0.0.1:4318"))
    assert caught.value.reason == "InvalidOption"
