"""Metrics of Redis exist with all label values from the start."""

from userstorage_operator.redis_cache.breaker import State
from userstorage_operator.redis_cache.connection import KINDS, Connection
from userstorage_operator.runtime.metrics import Metrics


def lines(metrics: Metrics, name: str) -> dict[str, float]:
    """Return the samples of a metric by the value of their only label."""
    samples = [line.rpartition(" ") for line in metrics.render().decode().splitlines() if line.startswith(f"{name}{{")]
    return {sample.split('"')[1]: float(value) for sample, _, value in samples}


def test_every_label_value_is_exported_before_its_first_event() -> None:
    metrics = Metrics("test")
    Connection(None, metrics.serving)
    assert lines(metrics, "userstorage_redis_errors_total") == dict.fromkeys(KINDS, 0.0)
    assert lines(metrics, "userstorage_redis_breaker_state") == {"closed": 1.0, "half_open": 0.0, "open": 0.0}


def test_breaker_is_in_exactly_one_state() -> None:
    metrics = Metrics("test")
    Connection(None, metrics.serving)
    metrics.serving.redis_breaker(State.OPEN)
    metrics.serving.redis_failed("timeout")
    metrics.serving.redis_answered(0.002)
    assert lines(metrics, "userstorage_redis_breaker_state") == {"closed": 0.0, "half_open": 0.0, "open": 1.0}
    assert lines(metrics, "userstorage_redis_errors_total")["timeout"] == 1.0
    assert "userstorage_redis_command_duration_seconds_count 1.0" in metrics.render().decode()
