"""deploy/monitoring and the runbook: up to date, complete, and only about metrics that exist."""

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
        done = prometheus.promtool(*arguments)
    except ClusterError as error:
        pytest.skip(str(error))
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_files_are_up_to_date() -> None:
    assert (rules.FOLDER / "prometheusrule.yaml").read_text() == rules.prometheus_rule()
    assert (rules.FOLDER / "dashboard.json").read_text() == dashboard()


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules.SOURCE))


def test_each_alert_fires_only_when_it_should() -> None:
    promtool("test", "rules", str(CASES))


def test_each_alert_has_a_firing_and_a_silent_case() -> None:
    cases = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        [question] = case["promql_expr_test"]
        [alert] = re.findall(r'alertname="(\w+)"', question["expr"])
        cases[case["name"]] = (alert, bool(question["exp_samples"]))
    assert sorted(cases.values()) == sorted((alert, fires) for alert in ALERTS for fires in (True, False))


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_has_severity_and_next_command(name: str) -> None:
    rule: dict[str, Any] = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "for" in rule
    assert rule["annotations"]["summary"].endswith(".")
    assert "Next: kubectl " in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_runbook_has_exactly_one_section_per_alert() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert sections == list(ALERTS)


def expressions() -> list[str]:
    shown = json.loads(dashboard())["panels"]
    queries = [target["expr"] for panel in shown for target in panel.get("targets", ())]
    return [*queries, *(rule["expr"] for group in rules.groups() for rule in group["rules"])]


def test_every_queried_metric_and_recording_exists() -> None:
    existing = {sample.name for family in complete().registry.collect() for sample in family.samples}
    words = {word for text in expressions() for word in re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", text)}
    assert words
    assert words - existing == set()
    recorded = {word for text in expressions() for word in re.findall(r"userstorage:[\w:]+", text)}
    assert recorded == set(rules.rules("record")), "a recording without use, or a use without a recording"


def test_every_metric_in_the_runbook_exists() -> None:
    families = complete().registry.collect()
    existing = {name for family in families for name in (family.name, *(sample.name for sample in family.samples))}
    words = set(re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", (ROOT / "docs/runbook.md").read_text()))
    assert words
    assert words - existing == set()


def test_every_queried_label_value_exists() -> None:
    """Check label values too: an alert on a value that no series has would never fire."""
    existing: dict[str, set[tuple[str, str]]] = {}
    for family in complete().registry.collect():
        for sample in family.samples:
            existing.setdefault(sample.name, set()).update(sample.labels.items())
    for text in expressions():
        for name, inside in re.findall(r"\b(userstorage_\w+)\{(.*?)\}", text):
            for label, values in re.findall(r'(\w+)=~?"(.*?)"', inside):
                assert {(label, value) for value in values.split("|")} <= existing[name], text


def test_hurried_rules_differ_only_in_time() -> None:
    hurried = {rule.get("alert", rule.get("record")): rule for group in rules.hurried(100)["groups"] for rule in group["rules"]}
    assert hurried.keys() == {*ALERTS, *rules.rules("record")}
    assert hurried["UserStorageLongNotReady"]["expr"] == "max(userstorage_not_ready_longest_seconds) > 6.0"
    assert hurried["UserStorageLongNotReady"]["for"] == "600ms"
    assert "[6000ms]" in hurried["userstorage:reconcile_error:ratio_rate10m"]["expr"]
    assert hurried["UserStorageWatchStale"]["expr"] == ALERTS["UserStorageWatchStale"]["expr"]
