"""Prometheus metrics of the gate. No label has a value that a user, a tenant or a stranger chooses."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from userstorage_operator.runtime.connections import Closed

_VERBS = ("list", "watch")
_CODES = ("2xx", "4xx", "5xx")
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1)


class GateMetrics:
    """Counts decisions and requests to the API server. Implements the observer protocols of the gate, of KubeClient and of
    `runtime.http`.
    """

    def __init__(self, version: str, dialects: Iterable[str], decisions: Iterable[tuple[str, str]]) -> None:
        """`decisions` are all pairs of outcome and reason."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        build = Gauge("userstorage_build_info", "Constant 1 with the version.", ["version"], registry=registry)
        build.labels(version).set(1)
        decided = Counter(
            "userstorage_gate_decisions_total", "Decisions of the gate.", ["dialect", "decision", "reason"], registry=registry
        )
        duration = Histogram(
            "userstorage_gate_duration_seconds", "Time from the arrival of a question until the gate has decided.", ["dialect"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        pairs = list(decisions)
        self._decided = {
            (dialect, reason): decided.labels(dialect, outcome, reason) for dialect in dialects for outcome, reason in pairs
        }
        self._duration = {dialect: duration.labels(dialect) for dialect, _ in self._decided}
        self.rows = Gauge("userstorage_gate_rows", "UserStorages in the table of the gate.", registry=registry)
        self.table_age = Gauge(
            "userstorage_gate_table_age_seconds",
            "Time since the watch that is silent for longest last received data from the API server.",
            registry=registry,
        )
        self.loop_lag = Gauge(
            "userstorage_loop_lag_seconds", "Largest delay of the event loop in the last minute.", registry=registry
        )
        requests = Counter(
            "userstorage_gate_api_requests_total",
            "Requests of the gate to the API server; code 5xx includes requests without an answer.",
            ["verb", "code"], registry=registry,
        )  # fmt: skip
        self._requests = {(verb, code): requests.labels(verb, code) for verb in _VERBS for code in _CODES}
        closed = Counter(
            "userstorage_http_connections_closed_total", "Connections that the gate closed because of a limit, by reason.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._closed = {str(reason): closed.labels(reason) for reason in Closed}

    def decided(self, dialect: str, outcome: str, reason: str, seconds: float) -> None:  # noqa: ARG002  # the reason implies the outcome
        """Count a decision; `seconds` have passed since the question arrived."""
        self._decided[dialect, reason].inc()
        self._duration[dialect].observe(seconds)

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:  # noqa: ARG002  # as KubeClient reports it
        """Count a request to the API server; `code` is the HTTP status, 0 if there was no response."""
        self._requests[verb, f"{code // 100}xx" if 400 <= code < 500 else "2xx" if 0 < code < 400 else "5xx"].inc()

    def http_answered(self, handler: str, code: int, seconds: float) -> None:
        """Ignore a response of a mounted application: the gate mounts none."""

    def http_connection_closed(self, reason: str) -> None:
        """Count a connection that the HTTP server closed because of a limit; `reason` is a value of `connections.Closed`."""
        self._closed[reason].inc()

    def render(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)
