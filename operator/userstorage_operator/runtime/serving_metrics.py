"""Prometheus metrics of the read API and of the Redis cache behind it; every replica has them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from userstorage_operator.runtime.connections import Closed

_HTTP_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.25, 1)
_REDIS_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25)
_CODES = ("2xx", "4xx", "5xx")
_CACHE_RESULTS = ("hit", "miss", "stale", "error")


class ServingMetrics:
    """Counts requests to the read API and calls to Redis. Implements the observer protocols of `runtime.http` and
    `redis_cache`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._http_requests = Counter(
            "userstorage_http_requests_total", "Requests to the read API, by route.", ["handler", "code"],
            registry=registry,
        )  # fmt: skip
        self._http_seconds = Histogram(
            "userstorage_http_request_duration_seconds", "Duration of a request to the read API.",
            buckets=_HTTP_SECONDS, registry=registry,
        )  # fmt: skip
        self._http_closed = Counter(
            "userstorage_http_connections_closed_total", "Connections that the operator closed because of a limit, by reason.",
            ["reason"], registry=registry,
        )  # fmt: skip
        self._redis_commands = Histogram(
            "userstorage_redis_command_duration_seconds", "Duration of a call to Redis; includes failed calls.",
            buckets=_REDIS_SECONDS, registry=registry,
        )  # fmt: skip
        self._redis_errors = Counter(
            "userstorage_redis_errors_total", "Calls to Redis that failed, or were not made because the circuit breaker was open.",
            ["kind"],
            registry=registry,
        )  # fmt: skip
        self._redis_breaker = Gauge(
            "userstorage_redis_breaker_state", "1 for the current state of the circuit breaker for Redis, else 0.", ["state"],
            registry=registry,
        )  # fmt: skip
        self._redis_states: tuple[str, ...] = ()
        self._cache_requests = Counter(
            "userstorage_cache_requests_total",
            "Lookups of summaries. hit: in Redis or memory; miss: read from the API server; stale: an old value; error: no value.",
            ["result"], registry=registry,
        )  # fmt: skip
        self._cache_rejected = Counter(
            "userstorage_cache_rejected_total", "Invalid values found in Redis, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._mirror_fills = Counter(
            "userstorage_mirror_fills_total",
            "Complete rewrites of the mirror in Redis: when a leader starts, and when Redis has lost data.",
            registry=registry,
        )  # fmt: skip
        for result in _CACHE_RESULTS:
            self._cache_requests.labels(result)
        for reason in Closed:
            self._http_closed.labels(reason)

    def http_labels(self, handlers: Iterable[str]) -> None:
        """Create the time series for these route patterns, at zero."""
        for handler in handlers:
            for code in _CODES:
                self._http_requests.labels(handler, code)

    def http_answered(self, handler: str, code: int, seconds: float) -> None:
        """Count a response of the read API by route pattern and status code; `seconds` is the duration of the request."""
        self._http_requests.labels(handler, "2xx" if code < 400 else f"{code // 100}xx").inc()
        self._http_seconds.observe(seconds)

    def http_connection_closed(self, reason: str) -> None:
        """Count a connection that the HTTP server closed because of a limit; `reason` is a value of `connections.Closed`."""
        self._http_closed.labels(reason).inc()

    def redis_labels(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        """Create the time series for these kinds of errors, at zero. `states` are all values that `redis_breaker` can get."""
        self._redis_states = tuple(states)
        for kind in kinds:
            self._redis_errors.labels(kind)

    def redis_answered(self, seconds: float) -> None:
        """Record the duration of a call to Redis, successful or not."""
        self._redis_commands.observe(seconds)

    def redis_failed(self, kind: str) -> None:
        """Count a call to Redis that failed, or was not made because the circuit breaker was open; `kind` is the kind of error."""
        self._redis_errors.labels(kind).inc()

    def redis_breaker(self, state: str) -> None:
        """Set the gauge of the circuit breaker for Redis: 1 for `state`, 0 for every other state."""
        for known in self._redis_states:
            self._redis_breaker.labels(known).set(known == state)

    def cache_labels(self, reasons: Iterable[str]) -> None:
        """Create the time series for these reasons for which a value from Redis can be rejected, at zero."""
        for reason in reasons:
            self._cache_rejected.labels(reason)

    def cache_asked(self, result: str, count: int = 1) -> None:
        """Add `count` to the lookups of summaries with this result: hit, miss, stale or error."""
        self._cache_requests.labels(result).inc(count)

    def mirror_filled(self) -> None:
        """Count a complete rewrite of the mirror in Redis."""
        self._mirror_fills.inc()

    def cache_rejected(self, reason: str) -> None:
        """Count an invalid value in Redis by the reason for which it was rejected."""
        self._cache_rejected.labels(reason).inc()
