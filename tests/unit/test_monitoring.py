"""deploy/monitoring and the runbook: generated files are current, every alert is covered, every metric exists."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import ClusterError
from monitoring import rules
from monitoring.dashboard import dashboard
from testservers import prometheus
from unit.test_metrics import complete

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/monitoring/rules_test.yaml"
ALERTS = rules.rules("alert")


def promtool(*arguments: str) -> None:
    try:
        result = prometheus.promtool(*arguments)
    except ClusterError as error:
        pytest.skip(str(error))
    assert result.returncode == 0, result.stdout + result.stderr


def test_generated_files_are_current() -> None:
    assert (rules.FOLDER / "prometheusrule.yaml").read_text() == rules.prometheus_rule()
    assert (rules.FOLDER / "dashboard.json").read_text() == dashboard()


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules.SOURCE))


def test_alerts_fire_as_the_promtool_cases_expect() -> None:
    promtool("test", "rules", str(CASES))


def test_each_alert_has_a_firing_and_a_quiet_case() -> None:
    cases = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        [query] = case["promql_expr_test"]
        [alert] = re.findall(r'alertname="(\w+)"', query["expr"])
        cases[case["name"]] = (alert, bool(query["exp_samples"]))
    assert sorted(cases.values()) == sorted((alert, fires) for alert in ALERTS for fires in (True, False))


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_a_severity_and_a_next_command(name: str) -> None:
    rule: dict[str, Any] = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "for" in rule
    assert rule["annotations"]["summary"].endswith(".")
    assert "Next: kubectl " in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_runbook_sections_match_the_alerts() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert sections == list(ALERTS)


def expressions() -> list[str]:
    panels = json.loads(dashboard())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [*queries, *(rule["expr"] for group in rules.groups() for rule in group["rules"])]


def test_queried_metrics_exist() -> None:
    existing = {sample.name for family in complete().registry.collect() for sample in family.samples}
    used = {word for text in expressions() for word in re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", text)}
    assert used
    assert used - existing == set()
    recorded = {word for text in expressions() for word in re.findall(r"userstorage:[\w:]+", text)}
    assert recorded == set(rules.rules("record")), "every recording is used, and every used recording exists"


def test_runbook_metrics_exist() -> None:
    families = complete().registry.collect()
    existing = {name for family in families for name in (family.name, *(sample.name for sample in family.samples))}
    used = set(re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", (ROOT / "docs/runbook.md").read_text()))
    assert used
    assert used - existing == set()


def test_queried_label_values_exist() -> None:
    """Fail if a query selects a label value that no series has: its alert would never fire."""
    existing: dict[str, set[tuple[str, str]]] = {}
    for family in complete().registry.collect():
        for sample in family.samples:
            existing.setdefault(sample.name, set()).update(sample.labels.items())
    for text in expressions():
        for name, selector in re.findall(r"\b(userstorage_\w+)\{(.*?)\}", text):
            for label, values in re.findall(r'(\w+)=~?"(.*?)"', selector):
                assert {(label, value) for value in values.split("|")} <= existing[name], text


def test_accelerated_rules_differ_in_durations_only() -> None:
    accelerated = {
        rule.get("alert", rule.get("record")): rule for group in rules.accelerated(100)["groups"] for rule in group["rules"]
    }
    assert accelerated.keys() == {*ALERTS, *rules.rules("record")}
    assert accelerated["UserStorageLongNotReady"]["expr"] == "max(userstorage_not_ready_longest_seconds) > 6.0"
    assert accelerated["UserStorageLongNotReady"]["for"] == "600ms"
    assert "[6000ms]" in accelerated["userstorage:reconcile_error:ratio_rate10m"]["expr"]
    assert accelerated["UserStorageWatchStale"]["expr"] == ALERTS["UserStorageWatchStale"]["expr"]
