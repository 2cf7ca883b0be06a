"""What the dashboard shows, row by row. Every query has an answer, zero where nothing happened."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its series are called: words and `{{label}}`."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time; `unit` is one of Grafana's."""

    title: str
    unit: str
    queries: tuple[Query, ...]


def _panel(title: str, unit: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, unit, tuple(Query(*query) for query in queries))


def _quantile(share: float, histogram: str) -> str:
    """Zero where nothing was observed, which Prometheus would tell as NaN."""
    return f"histogram_quantile({share}, sum by (le) (rate(userstorage_{histogram}_bucket[5m]))) >= 0 or vector(0)"


def _rate(counter: str, by: str) -> str:
    return f"sum by ({by}) (rate(userstorage_{counter}[5m]))"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Users": (
        _panel("UserStorages by phase", "short", ("max by (phase) (userstorage_objects)", "{{phase}}")),
        _panel("Not as it should be, by reason", "short", ("max by (reason) (userstorage_condition_reasons)", "{{reason}}")),
        _panel(
            "Time to Ready",
            "s",
            (_quantile(0.5, "time_to_ready_seconds"), "half"),
            (_quantile(0.99, "time_to_ready_seconds"), "99 %"),
        ),
        _panel(
            "Waiting longest",
            "s",
            ("max(userstorage_not_ready_longest_seconds)", "not Ready"),
            ("max(userstorage_deletion_oldest_seconds)", "deletion"),
        ),
        _panel(
            "Deletions",
            "short",
            ("max(userstorage_deletions_in_flight)", "under way"),
            ("max(userstorage_deletions_overdue)", "overdue"),
        ),
        _panel("Volumes more than 90 % full", "short", ("max(userstorage_volumes_nearly_full)", "volumes")),
        _panel("Fullest volume", "percentunit", ("max(userstorage_volume_usage_ratio_max)", "fullest")),
    ),
    "Passes": (
        _panel("Passes", "ops", (_rate("reconcile_duration_seconds_count", "result"), "{{result}}")),
        _panel("Error ratio", "percentunit", ("userstorage:reconcile_error:ratio_rate10m", "errors")),
        _panel("Slowest pass in a hundred", "s", ("userstorage:reconcile_duration_seconds:p99_rate10m", "99 %")),
        _panel("Failures by reason", "ops", (_rate("reconcile_errors_total", "reason"), "{{reason}}")),
        _panel("Queue", "short", ("max(userstorage_queue_depth)", "keys")),
        _panel("Wait in the queue", "s", ("max(userstorage_queue_oldest_wait_seconds)", "oldest")),
    ),
    "API server": (
        _panel("Requests", "reqps", (_rate("api_requests_total", "verb, code"), "{{verb}} {{code}}")),
        _panel("Slowest answer in a hundred", "s", (_quantile(0.99, "api_request_duration_seconds"), "99 %")),
        _panel("Silence of watches", "s", ("max by (resource) (userstorage_watch_silence_seconds)", "{{resource}}")),
        _panel("Failed sweeps in 15 minutes", "short", ("sum(increase(userstorage_sweep_errors_total[15m]))", "failed")),
    ),
    "Redis and read API": (
        _panel("Errors of Redis", "ops", (_rate("redis_errors_total", "kind"), "{{kind}}")),
        _panel("Breaker before Redis", "short", ("sum by (state) (userstorage_redis_breaker_state)", "{{state}}")),
        _panel("Slowest call to Redis in a hundred", "s", (_quantile(0.99, "redis_command_duration_seconds"), "99 %")),
        _panel("Cache", "ops", (_rate("cache_requests_total", "result"), "{{result}}")),
        _panel("Requests to the read API", "reqps", (_rate("http_requests_total", "handler, code"), "{{handler}} {{code}}")),
        _panel("Slowest answer in a hundred", "s", (_quantile(0.99, "http_request_duration_seconds"), "99 %")),
    ),
    "Processes": (
        _panel("Leader", "short", ("userstorage_leader", "{{instance}}")),
        _panel("Age of the lease's renewal", "s", ("userstorage_lease_renew_age_seconds", "{{instance}}")),
        _panel("CPU", "percentunit", ("userstorage:process_cpu_seconds:rate5m", "{{instance}}")),
        _panel("Memory of 512Mi", "percentunit", ("userstorage:memory_of_limit:ratio", "{{instance}}")),
        _panel("Delay of the event loop", "s", ("userstorage_loop_lag_seconds", "{{instance}}")),
    ),
}
