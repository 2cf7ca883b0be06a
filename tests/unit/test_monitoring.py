"""deploy/monitoring and the runbook: of one source, complete, and only about metrics that there are."""

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


def test_what_is_made_is_current() -> None:
    assert (rules.FOLDER / "prometheusrule.yaml").read_text() == rules.prometheus_rule()
    assert (rules.FOLDER / "dashboard.json").read_text() == dashboard()


def test_promtool_takes_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules.SOURCE))


def test_each_alert_fires_when_it_should_and_else_not() -> None:
    promtool("test", "rules", str(CASES))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        [question] = case["promql_expr_test"]
        [alert] = re.findall(r'alertname="(\w+)"', question["expr"])
        cases[case["name"]] = (alert, bool(question["exp_samples"]))
    assert sorted(cases.values()) == sorted((alert, fires) for alert in ALERTS for fires in (True, False))


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_how_bad_it_is_and_what_to_type_next(name: str) -> None:
    rule: dict[str, Any] = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "for" in rule
    assert rule["annotations"]["summary"].endswith(".")
    assert "Next: kubectl " in rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert sections == list(ALERTS)


def expressions() -> list[str]:
    shown = json.loads(dashboard())["panels"]
    asked = [target["expr"] for panel in shown for target in panel.get("targets", ())]
    return [*asked, *(rule["expr"] for group in rules.groups() for rule in group["rules"])]


def test_whatever_is_asked_for_exists() -> None:
    there = {sample.name for family in complete().registry.collect() for sample in family.samples}
    words = {word for text in expressions() for word in re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", text)}
    assert words
    assert words - there == set()
    recorded = {word for text in expressions() for word in re.findall(r"userstorage:[\w:]+", text)}
    assert recorded == set(rules.rules("record")), "a recording that nobody uses, or a use of none"


def test_the_runbook_names_no_other_metrics() -> None:
    families = complete().registry.collect()
    there = {name for family in families for name in (family.name, *(sample.name for sample in family.samples))}
    words = set(re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", (ROOT / "docs/runbook.md").read_text()))
    assert words
    assert words - there == set()


def test_every_label_that_is_asked_for_is_one_of_its_metric() -> None:
    """A value that no series has would keep an alert quiet for ever."""
    there: dict[str, set[tuple[str, str]]] = {}
    for family in complete().registry.collect():
        for sample in family.samples:
            there.setdefault(sample.name, set()).update(sample.labels.items())
    for text in expressions():
        for name, inside in re.findall(r"\b(userstorage_\w+)\{(.*?)\}", text):
            for label, values in re.findall(r'(\w+)=~?"(.*?)"', inside):
                assert {(label, value) for value in values.split("|")} <= there[name], text


def test_in_a_hurry_only_time_changes() -> None:
    hurried = {rule.get("alert", rule.get("record")): rule for group in rules.hurried(100)["groups"] for rule in group["rules"]}
    assert hurried.keys() == {*ALERTS, *rules.rules("record")}
    assert hurried["UserStorageLongNotReady"]["expr"] == "max(userstorage_not_ready_longest_seconds) > 6.0"
    assert hurried["UserStorageLongNotReady"]["for"] == "600ms"
    assert "[6000ms]" in hurried["userstorage:reconcile_error:ratio_rate10m"]["expr"]
    assert hurried["UserStorageWatchStale"]["expr"] == ALERTS["UserStorageWatchStale"]["expr"]
