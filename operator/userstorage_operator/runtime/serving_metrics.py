"""Metrics of what every replica serves: answers over HTTP, and the cache in Redis behind them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_HTTP_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.25, 1)
_REDIS_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25)
_CODES = ("2xx", "4xx", "5xx")
_CACHE_RESULTS = ("hit", "miss", "stale", "error")


class ServingMetrics:
    """Satisfies the observers of `runtime.http` and of `store`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._http_requests = Counter(
            "userstorage_http_requests_total", "Requests to the read API, by what they ask for.", ["handler", "code"],
            registry=registry,
        )  # fmt: skip
        self._http_seconds = Histogram(
            "userstorage_http_request_duration_seconds", "Time of one answer of the read API.",
            buckets=_HTTP_SECONDS, registry=registry,
        )  # fmt: skip
        self._redis_commands = Histogram(
            "userstorage_redis_command_duration_seconds", "Time of one call to Redis, failed ones included.",
            buckets=_REDIS_SECONDS, registry=registry,
        )  # fmt: skip
        self._redis_errors = Counter(
            "userstorage_redis_errors_total", "Calls to Redis that failed, or were not made for an open breaker.", ["kind"],
            registry=registry,
        )  # fmt: skip
        self._redis_breaker = Gauge(
            "userstorage_redis_breaker_state", "1 for the state of the circuit breaker before Redis.", ["state"],
            registry=registry,
        )  # fmt: skip
        self._redis_states: tuple[str, ...] = ()
        self._cache_requests = Counter(
            "userstorage_cache_requests_total", "Views asked for: in Redis (or just fetched), fetched, remembered, unknown.",
            ["result"], registry=registry,
        )  # fmt: skip
        self._cache_rejected = Counter(
            "userstorage_cache_rejected_total", "Values in Redis that were not what their key promises.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._mirror_fills = Counter(
            "userstorage_mirror_fills_total", "How often all that Redis holds was written anew: at a start, and after a loss.",
            registry=registry,
        )  # fmt: skip
        for result in _CACHE_RESULTS:
            self._cache_requests.labels(result)

    def http_labels(self, handlers: Iterable[str]) -> None:
        """The words that `http_answered` may be called with."""
        for handler in handlers:
            for code in _CODES:
                self._http_requests.labels(handler, code)

    def http_answered(self, handler: str, code: int, seconds: float) -> None:
        """A request to the read API has been answered."""
        self._http_requests.labels(handler, "2xx" if code < 400 else f"{code // 100}xx").inc()
        self._http_seconds.observe(seconds)

    def redis_labels(self, kinds: Iterable[str], states: Iterable[str]) -> None:
        """What may go wrong with Redis, and how its breaker may stand: shown as zero from the start."""
        self._redis_states = tuple(states)
        for kind in kinds:
            self._redis_errors.labels(kind)

    def redis_answered(self, seconds: float) -> None:
        """A call to Redis has ended."""
        self._redis_commands.observe(seconds)

    def redis_failed(self, kind: str) -> None:
        """A call to Redis has failed."""
        self._redis_errors.labels(kind).inc()

    def redis_breaker(self, state: str) -> None:
        """The breaker before Redis has changed."""
        for known in self._redis_states:
            self._redis_breaker.labels(known).set(known == state)

    def cache_labels(self, reasons: Iterable[str]) -> None:
        """The words that `cache_rejected` may be called with."""
        for reason in reasons:
            self._cache_rejected.labels(reason)

    def cache_asked(self, result: str, count: int = 1) -> None:
        """So many views have been asked for: hit, miss, stale or error."""
        self._cache_requests.labels(result).inc(count)

    def mirror_filled(self) -> None:
        """All that the leader keeps in Redis has been written anew."""
        self._mirror_fills.inc()

    def cache_rejected(self, reason: str) -> None:
        """A value in Redis was not what its key promises."""
        self._cache_rejected.labels(reason).inc()
