"""Where nobody traces, nothing is loaded for it; where it is asked for and not there, that is said."""

import subprocess
import sys

import pytest

from userstorage_operator import app
from userstorage_operator.api.errors import OperatorError
from userstorage_operator.config import Config


def test_without_an_endpoint_nothing_is_loaded_that_it_takes() -> None:
    """redis loads OpenTelemetry's interface where that is installed; not what sends spans."""
    code = "import sys, userstorage_operator.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "userstorage_operator.runtime.tracing" in loaded
    taken = ("userstorage_operator.runtime.otel", "opentelemetry.exporter", "opentelemetry.sdk.trace", "google.protobuf")
    assert [name for name in loaded if name.startswith(taken)] == []


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "userstorage_operator.runtime.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(OperatorError, match=r"--otlp-endpoint: needs userstorage-operator\[otel\]") as caught:
        app._tracer(Config(otlp_endpoint="http://127.0.0.1:4318"))
    assert caught.value.reason == "InvalidOption"
