"""What the operator tells Prometheus: a fixed set of series, as documented."""

import re
from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from userstorage_operator.api import reasons
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.informers.caches import Caches
from userstorage_operator.object_metrics import LABEL_VALUES, ObjectMetrics
from userstorage_operator.readapi.routes import ReadApi
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache
from userstorage_operator.redis_cache.codec import Reason
from userstorage_operator.redis_cache.connection import Connection
from userstorage_operator.runtime.gauges import BUILT_IN, REST
from userstorage_operator.runtime.http import HttpServer
from userstorage_operator.runtime.metrics import Metrics
from userstorage_operator.runtime.worker import Result

BUDGET = 300
NOBODY: Any = None
DOCUMENT = Path(__file__).parents[2] / "docs/observability.md"


def series(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def objects(count: int) -> list[dict[str, Any]]:
    every = [(kind, reason) for kind, known in reasons.REASONS.items() for reason in known]
    made = []
    for n in range(count):
        kind, reason = every[n % len(every)]
        condition = {"type": kind, "status": "False", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        meta = {"namespace": f"ns{n % 7}", "name": f"u{n}", "uid": f"{n}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        status = {"observedGeneration": 1, "phase": f"phase-of-u{n}", "conditions": [condition]}
        made.append(
            {
                "metadata": meta | {"resourceVersion": f"{n + 1}"},
                "spec": {"userID": f"u{n}", "className": f"class-of-u{n}"},
                "status": status,
            }
        )
    return made


def complete() -> Metrics:
    """All series that a process has from its start."""
    metrics = Metrics("test", LABEL_VALUES)
    Connection(None, metrics.serving)
    metrics.serving.cache_labels(Reason)
    server = HttpServer({}, {}, {}, dict, bytes, "", metrics.serving.http_answered)
    metrics.serving.http_labels(server.mount("/v1", ReadApi(NOBODY, NOBODY, (), "").application()))
    return metrics


def told_of(count: int) -> Metrics:
    """The metrics of a process that has met so many users, each of whom did what could make series."""
    metrics = complete()
    views, book = Caches(lambda _: None, lambda _: None), RolloutTracker(lambda _: None, lambda _: None)
    telemetry = ObjectMetrics(metrics, views, book, VolumeStatsCache(), lambda: datetime(2026, 1, 2, tzinfo=UTC))
    views.cache(USER_STORAGES).replace(objects(count), f"{count + 1}")
    for n in range(count):
        metrics.reconciled(Result(f"ReasonOfUser{n}", retry=n % 2 == 0), 0.1)
        metrics.requested("patch", f"resource-of-u{n}", 200 + n % 400, 0.1)
        metrics.became_ready(n)
    telemetry.collect()
    return metrics


def test_a_thousand_users_have_the_series_of_ten_and_of_none() -> None:
    none, ten, thousand = (series(told_of(count)) for count in (0, 10, 1000))
    assert none.keys() == ten.keys() == thousand.keys()
    assert len(none) <= BUDGET
    assert thousand['userstorage_objects{phase="Pending"}'] == 1000
    assert thousand['userstorage_reconcile_errors_total{reason="other"}'] == 1000


def test_every_failure_that_a_status_can_name_has_a_series() -> None:
    told = series(Metrics("test", LABEL_VALUES))
    for reason in chain(reasons.FAILURES, ("CrashLoopBackOff", "ClaimLost", "FailedMount", "HostConflict", "DeletionTimedOut")):
        assert told[f'userstorage_condition_reasons{{reason="{reason}"}}'] == 0


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (Result(), "success"),
        (Result("InvalidSpec"), "rejected"),
        (Result("APIUnavailable", retry=True), "error"),
        (Result("APIError", retry=True, routine=True), "conflict"),
    ],
)
def test_a_pass_is_counted_by_what_is_to_be_done_about_it(result: Result, kind: str) -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.reconciled(result, 0.2)
    told = series(metrics)
    counts = {
        key: told[f'userstorage_reconcile_duration_seconds_count{{result="{key}"}}']
        for key in ("success", "rejected", "conflict", "error")
    }
    assert counts == dict.fromkeys(counts, 0) | {kind: 1}
    assert told["userstorage_reconcile_retries_total"] == result.retry
    errors = Counter({name: value for name, value in told.items() if name.startswith("userstorage_reconcile_errors_total")})
    assert errors.total() == (kind != "success")


@pytest.mark.parametrize(("code", "shown"), [(200, "2xx"), (409, "4xx"), (503, "5xx"), (0, "5xx")])
def test_requests_are_counted_by_kind_of_answer(code: int, shown: str) -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.requested("patch", "userstorages", code, 0.3)
    told = series(metrics)
    assert told[f'userstorage_api_requests_total{{code="{shown}",resource="userstorages",verb="patch"}}'] == 1
    assert told['userstorage_api_request_duration_seconds_count{access="write"}'] == 1


def test_a_watch_that_lasts_for_minutes_is_no_slow_request() -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.requested("watch", "userstorages", 200, 300)
    told = series(metrics)
    assert told['userstorage_api_requests_total{code="2xx",resource="userstorages",verb="watch"}'] == 1
    assert told['userstorage_api_request_duration_seconds_count{access="read"}'] == 0


def test_only_the_largest_classes_have_a_series() -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.gauges.set_classes({"": 3, **{f"class{n:02}": n for n in range(15)}}, 4)
    told = {name: value for name, value in series(metrics).items() if name.startswith("userstorage_class_objects")}
    assert len(told) == 12
    assert told[f'userstorage_class_objects{{class="{BUILT_IN}"}}'] == 3
    assert told[f'userstorage_class_objects{{class="{REST}"}}'] == sum(range(5)) + 4
    assert told['userstorage_class_objects{class="class14"}'] == 14
    metrics.gauges.set_classes({}, 0)
    assert len([name for name in series(metrics) if name.startswith("userstorage_class_objects")]) == 2


def documented() -> set[tuple[str, ...]]:
    section = DOCUMENT.read_text().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
    return {(name, kind, labels.replace("`", ""), meaning) for name, kind, labels, meaning in rows}


def test_the_document_lists_what_there_is() -> None:
    there = set()
    for family in complete().registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        there.add((name, family.type, ", ".join(labels), family.documentation))
    assert documented() == there
