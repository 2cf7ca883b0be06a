"""The panels of the Grafana dashboard, by dashboard row, with their PromQL queries.

Every query returns a value: 0 if nothing happened. Every metric is selected by the dashboard's variables `cluster` and
`namespace`, the one of the operator.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and its legend. In the legend, `{{label}}` stands for the value of that label of a series."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A time series panel of the dashboard. `unit` is the identifier of a Grafana unit, such as `reqps`."""

    title: str
    unit: str
    queries: tuple[Query, ...]


_METRIC = re.compile(r"\b(?:userstorage_\w+|userstorage:[\w:]+)")
_AGGREGATED = frozenset({"userstorage:reconcile_error:ratio_rate10m", "userstorage:reconcile_duration_seconds:p99_rate10m"})
"""Recordings without the label `namespace`."""


def _panel(title: str, unit: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, unit, tuple(Query(_selected(expression), legend) for expression, legend in queries))


def _selected(expression: str) -> str:
    """Return the query with the selectors of the dashboard's variables."""

    def select(metric: re.Match[str]) -> str:
        namespace = "" if metric[0] in _AGGREGATED else ', namespace=~"$namespace"'
        return f'{metric[0]}{{cluster=~"$cluster"{namespace}}}'

    return _METRIC.sub(select, expression)


def with_everything_selected(query: str) -> str:
    """Return a query of the dashboard as Grafana sends it while its variables `cluster` and `namespace` are set to All."""
    return query.replace("$cluster", EVERYTHING).replace("$namespace", EVERYTHING)


EVERYTHING = ".*"
"""The value of a variable that is set to All: it also matches series without the label."""


def _quantile(share: float, histogram: str) -> str:
    """Return the PromQL query of a quantile of the last five minutes. It gives 0, not NaN, if nothing was observed."""
    return f"histogram_quantile({share}, sum by (le) (rate(userstorage_{histogram}_bucket[5m]))) >= 0 or vector(0)"


def _rate(counter: str, by: str) -> str:
    return f"sum by ({by}) (rate(userstorage_{counter}[5m]))"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Users": (
        _panel("UserStorages by phase", "short", ("max by (phase) (userstorage_objects)", "{{phase}}")),
        _panel("Not ready or degraded, by reason", "short", ("max by (reason) (userstorage_condition_reasons)", "{{reason}}")),
        _panel(
            "Time to Ready",
            "s",
            (_quantile(0.5, "time_to_ready_seconds"), "median"),
            (_quantile(0.99, "time_to_ready_seconds"), "99 %"),
        ),
        _panel(
            "Longest wait",
            "s",
            ("max(userstorage_not_ready_longest_seconds)", "not Ready"),
            ("max(userstorage_deletion_oldest_seconds)", "deletion"),
        ),
        _panel(
            "Deletions",
            "short",
            ("max(userstorage_deletions_in_flight)", "in progress"),
            ("max(userstorage_deletions_overdue)", "overdue"),
        ),
        _panel("Volumes more than 90 % full", "short", ("max(userstorage_volumes_nearly_full)", "volumes")),
        _panel("Fullest volume", "percentunit", ("max(userstorage_volume_usage_ratio_max)", "fullest")),
    ),
    "Reconciles": (
        _panel("Reconciles", "ops", (_rate("reconcile_duration_seconds_count", "result"), "{{result}}")),
        _panel("Error ratio", "percentunit", ("userstorage:reconcile_error:ratio_rate10m", "errors")),
        _panel("Reconcile duration (p99)", "s", ("userstorage:reconcile_duration_seconds:p99_rate10m", "99 %")),
        _panel("Failures by reason", "ops", (_rate("reconcile_errors_total", "reason"), "{{reason}}")),
        _panel("Queue depth", "short", ("max(userstorage_queue_depth)", "keys")),
        _panel("Queue wait", "s", ("max(userstorage_queue_oldest_wait_seconds)", "oldest")),
    ),
    "API server": (
        _panel("API server requests", "reqps", (_rate("api_requests_total", "verb, code"), "{{verb}} {{code}}")),
        _panel("Request duration (p99)", "s", (_quantile(0.99, "api_request_duration_seconds"), "99 %")),
        _panel("Watch silence", "s", ("max by (resource) (userstorage_watch_silence_seconds)", "{{resource}}")),
        _panel("Failed sweeps in 15 minutes", "short", ("sum(increase(userstorage_sweep_errors_total[15m]))", "failed")),
    ),
    "Redis and read API": (
        _panel("Redis errors", "ops", (_rate("redis_errors_total", "kind"), "{{kind}}")),
        _panel("Redis circuit breaker", "short", ("sum by (state) (userstorage_redis_breaker_state)", "{{state}}")),
        _panel("Redis call duration (p99)", "s", (_quantile(0.99, "redis_command_duration_seconds"), "99 %")),
        _panel("Cache requests", "ops", (_rate("cache_requests_total", "result"), "{{result}}")),
        _panel("Read API requests", "reqps", (_rate("http_requests_total", "handler, code"), "{{handler}} {{code}}")),
        _panel("Read API request duration (p99)", "s", (_quantile(0.99, "http_request_duration_seconds"), "99 %")),
    ),
    "Processes": (
        _panel("Leader", "short", ("userstorage_leader", "{{instance}}")),
        _panel("Time since the last Lease renewal", "s", ("userstorage_lease_renew_age_seconds", "{{instance}}")),
        _panel("CPU", "percentunit", ("userstorage:process_cpu_seconds:rate5m", "{{instance}}")),
        _panel("Memory, share of 512Mi", "percentunit", ("userstorage:memory_of_limit:ratio", "{{instance}}")),
        _panel("Event loop lag", "s", ("userstorage_loop_lag_seconds", "{{instance}}")),
    ),
}
