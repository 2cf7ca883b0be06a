"""The metrics have a fixed set of series, as documented."""

import re
from collections import Counter
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from support.builders import class_object
from support.caches import put_list
from support.scrape import SERIES_BUDGET
from userstorage_operator import browsers
from userstorage_operator.api import reasons
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.browsers.browser import Browser
from userstorage_operator.gate.check import Reason as GateReason
from userstorage_operator.gate.dialects import DIALECTS
from userstorage_operator.informers.caches import Caches
from userstorage_operator.object_metrics import LABEL_VALUES, ObjectMetrics
from userstorage_operator.readapi.routes import ReadApi
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache
from userstorage_operator.redis_cache.codec import Reason
from userstorage_operator.redis_cache.connection import Connection
from userstorage_operator.runtime.gate_metrics import GateMetrics
from userstorage_operator.runtime.gauges import BUILT_IN, REST
from userstorage_operator.runtime.http import HttpServer
from userstorage_operator.runtime.metrics import Metrics
from userstorage_operator.runtime.worker import Result

UNUSED: Any = None
IMAGE = "docker.io/filebrowser/filebrowser:v2"
DOCUMENT = Path(__file__).parents[2] / "docs/observability.md"


def series(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def objects(count: int) -> list[dict[str, Any]]:
    conditions = [(kind, reason) for kind, known in reasons.REASONS.items() for reason in known]
    result: list[dict[str, Any]] = []
    for n in range(count):
        kind, reason = conditions[n % len(conditions)]
        condition = {"type": kind, "status": "False", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        meta = {"namespace": f"ns{n % 7}", "name": f"u{n}", "uid": f"{n}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        status = {"observedGeneration": 1, "phase": f"phase-of-u{n}", "conditions": [condition]}
        result.append(
            {
                "metadata": meta | {"resourceVersion": f"{n + 1}", "generation": 1},
                "spec": {"userID": f"u{n}", "className": f"class-of-u{n}"},
                "status": status,
            }
        )
    return result


def complete() -> Metrics:
    """Return metrics with all series that a process has from its start."""
    metrics = Metrics("test", LABEL_VALUES)
    Connection(None, metrics.serving)
    metrics.serving.cache_labels(Reason)
    server = HttpServer({}, {}, {}, dict, bytes, "", metrics.serving)
    metrics.serving.http_labels(server.mount("/v1", ReadApi(UNUSED, UNUSED, (), "").application()))
    return metrics


def metrics_of(count: int) -> Metrics:
    """Return the metrics of a process with so many users, each of whom does everything that could create a series."""
    metrics = complete()
    object_metrics, caches = objects_of(metrics)
    put_list(caches.cache(USER_STORAGES), objects(count), f"{count + 1}")
    for n in range(count):
        metrics.reconciled(Result(f"ReasonOfUser{n}", retry=n % 2 == 0), 0.1)
        metrics.requested("patch", f"resource-of-u{n}", 200 + n % 400, 0.1)
        metrics.became_ready(n)
    object_metrics.collect()
    return metrics


def objects_of(metrics: Metrics) -> tuple[ObjectMetrics, Caches]:
    caches, rollouts = Caches(lambda _: None, lambda _: None), RolloutTracker(lambda _: None, lambda _: None)
    return ObjectMetrics(metrics, caches, rollouts, VolumeStatsCache(), lambda: datetime(2026, 1, 2, tzinfo=UTC)), caches


def test_number_of_series_does_not_depend_on_number_of_users() -> None:
    none, ten, thousand = (series(metrics_of(count)) for count in (0, 10, 1000))
    assert none.keys() == ten.keys() == thousand.keys()
    assert len(none) <= SERIES_BUDGET
    assert thousand['userstorage_objects{phase="Pending"}'] == 1000
    assert thousand['userstorage_reconcile_errors_total{reason="other"}'] == 1000


def test_every_failure_reason_of_a_condition_has_a_series() -> None:
    values = series(Metrics("test", LABEL_VALUES))
    for reason in chain(reasons.FAILURES, ("CrashLoopBackOff", "ClaimLost", "FailedMount", "HostConflict", "DeletionTimedOut")):
        assert values[f'userstorage_condition_reasons{{reason="{reason}"}}'] == 0


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (Result(), "success"),
        (Result("InvalidSpec"), "rejected"),
        (Result("APIUnavailable", retry=True), "error"),
        (Result("APIError", retry=True, routine=True), "conflict"),
    ],
)
def test_reconcile_is_counted_by_result(result: Result, kind: str) -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.reconciled(result, 0.2)
    values = series(metrics)
    counts = {
        key: values[f'userstorage_reconcile_duration_seconds_count{{result="{key}"}}']
        for key in ("success", "rejected", "conflict", "error")
    }
    assert counts == dict.fromkeys(counts, 0) | {kind: 1}
    assert values["userstorage_reconcile_retries_total"] == result.retry
    errors = Counter({name: value for name, value in values.items() if name.startswith("userstorage_reconcile_errors_total")})
    assert errors.total() == (kind != "success")


@pytest.mark.parametrize(("code", "shown"), [(200, "2xx"), (409, "4xx"), (503, "5xx"), (0, "5xx")])
def test_requests_are_counted_by_class_of_status_code(code: int, shown: str) -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.requested("patch", "userstorages", code, 0.3)
    values = series(metrics)
    assert values[f'userstorage_api_requests_total{{code="{shown}",resource="userstorages",verb="patch"}}'] == 1
    assert values['userstorage_api_request_duration_seconds_count{access="write"}'] == 1


def test_duration_of_a_watch_is_not_observed_as_a_request() -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.requested("watch", "userstorages", 200, 300)
    values = series(metrics)
    assert values['userstorage_api_requests_total{code="2xx",resource="userstorages",verb="watch"}'] == 1
    assert values['userstorage_api_request_duration_seconds_count{access="read"}'] == 0


def test_only_classes_with_the_most_users_have_a_series_of_their_own() -> None:
    metrics = Metrics("test", LABEL_VALUES)
    metrics.gauges.set_classes({"": 3, **{f"class{n:02}": n for n in range(15)}}, 4)
    values = {name: value for name, value in series(metrics).items() if name.startswith("userstorage_class_objects")}
    assert len(values) == 12
    assert values[f'userstorage_class_objects{{class="{BUILT_IN}"}}'] == 3
    assert values[f'userstorage_class_objects{{class="{REST}"}}'] == sum(range(5)) + 4
    assert values['userstorage_class_objects{class="class14"}'] == 14
    metrics.gauges.set_classes({}, 0)
    assert len([name for name in series(metrics) if name.startswith("userstorage_class_objects")]) == 2


def test_scrape_counts_classes_without_image_digest_without_rendering_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    render = browsers.render

    def counted(storage: UserStorage, cls: UserStorageClass) -> Browser:
        rendered.append(cls.name)
        return render(storage, cls)

    def scrape() -> float:
        object_metrics.collect()
        return series(metrics)["userstorage_classes_without_digest"]

    def event(kind: str, name: str, version: int, **spec: Any) -> None:
        obj = class_object(name, meta={"resourceVersion": f"{version}"}, **spec)
        caches.cache(USER_STORAGE_CLASSES).event(kind, obj)

    monkeypatch.setattr(browsers, "render", counted)
    metrics = Metrics("test", LABEL_VALUES)
    object_metrics, caches = objects_of(metrics)
    digest = f"@sha256:{'0' * 64}"
    assert scrape() == 0
    event("ADDED", "tagged", 1)
    event("ADDED", "pinned", 2, browser={"image": f"{IMAGE}{digest}"}, storage={"directoryImage": f"busybox{digest}"})
    event("ADDED", "invalid", 3, browser={"flavor": "unknown"})
    assert rendered == ["tagged", "pinned"]
    assert [scrape() for _ in range(3)] == [1, 1, 1]
    assert len(rendered) == 2
    event("MODIFIED", "pinned", 4, browser={"image": IMAGE})
    assert scrape() == 2
    assert len(rendered) == 3
    event("DELETED", "tagged", 5)
    assert scrape() == 1
    assert len(rendered) == 3
    assert 'userstorage_class_objects{class="pinned"}' in series(metrics)
    assert 'userstorage_class_objects{class="tagged"}' not in series(metrics)


def test_scrape_counts_classes_past_the_end_of_life_of_their_program() -> None:
    metrics = Metrics("test", LABEL_VALUES)
    object_metrics, caches = objects_of(metrics)
    for version, flavor in enumerate(("FileBrowser", "Quantum"), start=1):
        obj = class_object(flavor.lower(), meta={"resourceVersion": f"{version}"}, browser={"flavor": flavor})
        caches.cache(USER_STORAGE_CLASSES).event("ADDED", obj)
    object_metrics.collect()
    assert series(metrics)["userstorage_classes_end_of_life"] == 1


def complete_gate() -> GateMetrics:
    """Return the metrics of a gate."""
    return GateMetrics("test", DIALECTS, [(reason.outcome, reason) for reason in GateReason])


def documented(heading: str) -> set[tuple[str, ...]]:
    section = DOCUMENT.read_text().partition(f"\n### {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", section, re.MULTILINE)
    return {(name, kind, labels.replace("`", ""), meaning) for name, kind, labels, meaning in rows}


def existing(registry: CollectorRegistry) -> set[tuple[str, ...]]:
    found = set[tuple[str, ...]]()
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        found.add((name, family.type, ", ".join(labels), family.documentation))
    return found


def test_documentation_lists_exactly_the_metrics_that_exist() -> None:
    assert documented("List of metrics") == existing(complete().registry)


def test_documentation_lists_the_metrics_of_the_gate() -> None:
    of_every_process = {row for row in existing(complete().registry) if not row[0].startswith("userstorage_")}
    assert documented("Metrics of the gate") == existing(complete_gate().registry) - of_every_process


def test_series_of_the_gate_are_fixed() -> None:
    metrics = complete_gate()
    before = len(metrics.render().splitlines())
    for verb, code in (("list", 200), ("list", 0), ("watch", 403), ("watch", 500)):
        metrics.requested(verb, "userstorages", code, 0.1)
    for dialect in DIALECTS:
        for reason in GateReason:
            metrics.decided(dialect, reason.outcome, reason, 0.001)
    assert len(metrics.render().splitlines()) == before
