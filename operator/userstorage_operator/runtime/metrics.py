"""Prometheus metrics that are updated as events happen. `gauges.py` has the metrics that are set right before each scrape.

Every label has a fixed set of values, and every time series exists from the start at zero. A value outside of this set counts
as `other`, so nothing that a user writes can create a time series (docs/observability.md).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from userstorage_operator.runtime.gauges import Gauges
from userstorage_operator.runtime.serving_metrics import ServingMetrics
from userstorage_operator.runtime.worker import Result

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would add a series to every counter, which no query needs

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
_RECONCILE_SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 10)
_REQUEST_SECONDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5)
_READY_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300)
_RESULTS = ("success", "rejected", "conflict", "error")
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")
_READS = frozenset({"get", "list"})
_CODES = ("2xx", "4xx", "5xx")
_DROP_REASONS = ("queue_full", "rate_limited", "rejected")


@dataclass(frozen=True, slots=True)
class LabelValues:
    """The label values that depend on the operator's API: reasons, resources, phases and conditions."""

    failures: Collection[str] = ()
    """The reasons that a failed reconcile can have."""
    resources: Collection[str] = ()
    """Plural names of the resources whose API requests are counted separately; all others count as `other`."""
    watched: Collection[str] = ()
    """Plural names of the watched resources."""
    phases: Collection[str] = ()
    conditions: Collection[tuple[str, str]] = ()
    """Pairs of condition type and condition status."""
    failure_reasons: Collection[str] = ()
    """Condition reasons that mean a failure of the UserStorage."""


class Metrics:
    """Counts reconciles, requests, sweeps and dropped Events. Implements the observer protocols of KubeClient and
    EventRecorder.
    """

    def __init__(self, version: str, label_values: LabelValues = LabelValues()) -> None:
        self.registry = CollectorRegistry()
        self._label_values = label_values
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        build = Gauge("userstorage_build_info", "Constant 1 with the version.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        self.gauges = Gauges(
            self.registry, label_values.watched, label_values.phases, label_values.conditions, label_values.failure_reasons
        )
        self.serving = ServingMetrics(self.registry)
        self._reconciles = Histogram(
            "userstorage_reconcile_duration_seconds",
            "Duration of a reconcile of a UserStorage. Result rejected: only a change of the object can help; conflict: a lost race.",
            ["result"], buckets=_RECONCILE_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._errors = Counter(
            "userstorage_reconcile_errors_total", "Failed reconciles, by condition reason.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self._retries = Counter(
            "userstorage_reconcile_retries_total", "Reconciles that were requeued with backoff.",
            registry=self.registry,
        )  # fmt: skip
        self._class_reconciles = Summary(
            "userstorage_class_reconcile_duration_seconds", "Duration of a reconcile of a UserStorageClass.", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self._requests = Counter(
            "userstorage_api_requests_total", "Requests to the API server; code 5xx includes requests without an answer.",
            ["verb", "resource", "code"], registry=self.registry,
        )  # fmt: skip
        self._request_time = Histogram(
            "userstorage_api_request_duration_seconds", "Time until the API server answered a request; watches are not included.",
            ["access"], buckets=_REQUEST_SECONDS, registry=self.registry,
        )  # fmt: skip
        self._events_dropped = Counter(
            "userstorage_events_dropped_total", "Kubernetes Events that were dropped, by reason.", ["reason"],
            registry=self.registry,
        )  # fmt: skip
        self._sweeps = Summary("userstorage_sweep_duration_seconds", "Duration of a completed sweep.", registry=self.registry)
        self._sweep_errors = Counter("userstorage_sweep_errors_total", "Sweeps that failed.", registry=self.registry)
        self._swept = Gauge(
            "userstorage_sweep_last_success_timestamp_seconds", "Time at which the last completed sweep ended; 0 before the first.",
            registry=self.registry,
        )  # fmt: skip
        self._volume_errors = Counter(
            "userstorage_volume_stats_errors_total", "Failed requests to a kubelet for the usage of its volumes.",
            registry=self.registry,
        )  # fmt: skip
        self._time_to_ready = Histogram(
            "userstorage_time_to_ready_seconds", "Time from the creation of a UserStorage until it is Ready for the first time.",
            buckets=_READY_SECONDS, registry=self.registry,
        )  # fmt: skip
        _create_series(self._reconciles, _RESULTS)
        _create_series(self._class_reconciles, _RESULTS)
        _create_series(self._errors, (*label_values.failures, OTHER))
        _create_series(self._requests, _VERBS, (*label_values.resources, OTHER), _CODES)
        _create_series(self._request_time, ("read", "write"))
        _create_series(self._events_dropped, _DROP_REASONS)

    def reconciled(self, result: Result, seconds: float) -> None:
        """Count a reconcile of a UserStorage by its result; `seconds` is its duration."""
        self._reconciles.labels(_result_label(result)).observe(seconds)
        if result.reason != "success":
            self._errors.labels(_known_or_other(result.reason, self._label_values.failures)).inc()
        if result.retry:
            self._retries.inc()

    def class_reconciled(self, result: Result, seconds: float) -> None:
        """Count a reconcile of a UserStorageClass by its result; `seconds` is its duration."""
        self._class_reconciles.labels(_result_label(result)).observe(seconds)

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Count a request to the API server; `code` is the HTTP status, 0 if there was no response."""
        self._requests.labels(verb, _known_or_other(resource, self._label_values.resources), _code_label(code)).inc()
        if verb != "watch":
            self._request_time.labels("read" if verb in _READS else "write").observe(seconds)

    def event_dropped(self, reason: str) -> None:
        """Count a Kubernetes Event that was not sent; `reason` is queue_full, rate_limited or rejected."""
        self._events_dropped.labels(reason).inc()

    def swept(self, seconds: float) -> None:
        """Count a completed sweep that took `seconds`, and set the time of the last completed sweep to now."""
        self._sweeps.observe(seconds)
        self._swept.set_to_current_time()

    def sweep_failed(self) -> None:
        """Count a failed sweep."""
        self._sweep_errors.inc()

    def volume_stats_failed(self) -> None:
        """Count a failed request to a kubelet for the usage of its volumes."""
        self._volume_errors.inc()

    def became_ready(self, seconds: float) -> None:
        """Record that a UserStorage is Ready for the first time, `seconds` after its creation."""
        self._time_to_ready.observe(seconds)

    def render(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


def _create_series(metric: Counter | Histogram | Summary, *values: Iterable[str]) -> None:
    """Create the time series for every combination of the label `values`, at zero. PromQL's `rate` does not see the first
    increase of a time series that appears later.
    """
    for labels in product(*values):
        metric.labels(*labels)


def _result_label(result: Result) -> str:
    if result.reason == "success":
        return "success"
    if result.routine:
        return "conflict"
    return "error" if result.retry else "rejected"


def _code_label(code: int) -> str:
    if 400 <= code < 500:
        return "4xx"
    return "2xx" if 0 < code < 400 else "5xx"


def _known_or_other(word: str, known: Collection[str]) -> str:
    return word if word in known else OTHER
