"""deploy/monitoring and the runbook: generated files are current, every alert is covered, every metric exists."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Metric

from localcluster import ClusterError
from monitoring import rules
from monitoring.dashboard import dashboard
from testservers import prometheus
from unit.test_metrics import complete, complete_gate
from userstorage_operator.api.quantities import parse_quantity

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests/monitoring/rules_test.yaml"
ALERTS = rules.rules("alert")
INTERVAL = 15
"""Seconds between two values of a series in the cases."""


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


def shipped() -> dict[str, Any]:
    """Return the spec of the shipped Deployment."""
    spec: dict[str, Any] = yaml.safe_load((ROOT / "deploy/manager/deployment.yaml").read_text())["spec"]
    return spec


def limits() -> tuple[float, float]:
    """Return the limits of the shipped Deployment: CPU in cores, and memory in bytes."""
    [container] = shipped()["template"]["spec"]["containers"]
    found = container["resources"]["limits"]
    return float(parse_quantity(found["cpu"])), float(parse_quantity(found["memory"]))


@pytest.mark.parametrize(
    ("alert", "recording", "limit"),
    [
        ("UserStorageCPUHigh", "userstorage:cpu_of_limit:ratio", limits()[0]),
        ("UserStorageMemoryHigh", "userstorage:memory_of_limit:ratio", limits()[1]),
    ],
)
def test_alerts_about_a_limit_use_that_of_the_shipped_deployment(alert: str, recording: str, limit: float) -> None:
    divisor = rules.rules("record")[recording]["expr"].rpartition(" / ")[2].strip("()")
    assert math.prod(map(float, divisor.split(" * "))) == limit
    threshold = re.fullmatch(rf"{recording} > ([\d.]+)", ALERTS[alert]["expr"])
    assert threshold is not None
    assert 0 < float(threshold[1]) < 1, "a process cannot use more than its limit"


def families() -> list[Metric]:
    """Return the metrics of the operator and of the gate."""
    return [*complete().registry.collect(), *complete_gate().registry.collect()]


def input_series() -> list[tuple[str, dict[str, str], str]]:
    """Return metric, labels and values of each series of the promtool cases."""
    found = []
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for series in case["input_series"]:
            name, _, selector = series["series"].partition("{")
            found.append((name, dict(re.findall(r'(\w+)="(.*?)"', selector)), series["values"]))
    return found


def test_promtool_cases_use_values_that_the_shipped_deployment_can_reach() -> None:
    """Fail if a case uses a value that no process reaches: its alert would fire in that case only."""
    cpu, memory = limits()
    instances = {labels["instance"] for _, labels, _ in input_series() if "instance" in labels}
    assert len(instances) <= shipped()["replicas"]
    checked = set()
    for name, labels, values in input_series():
        if labels.get("job") == "other":
            continue
        if name == "process_cpu_seconds_total":
            step = re.fullmatch(r"0\+([\d.]+)x\d+", values)
            assert step is not None
            assert float(step[1]) / INTERVAL <= cpu
            checked.add(name)
        if name == "process_resident_memory_bytes":
            assert float(values.partition("x")[0]) <= memory
            checked.add(name)
    assert checked == {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def test_promtool_cases_use_series_that_a_process_has() -> None:
    def comparable(labels: dict[str, str]) -> set[tuple[str, object]]:
        return {(label, float(value) if label == "le" else value) for label, value in labels.items()}

    existing: dict[str, list[set[tuple[str, object]]]] = {}
    for family in families():
        for sample in family.samples:
            existing.setdefault(sample.name, []).append(comparable(sample.labels))
    for name, labels, _ in input_series():
        own = comparable({label: value for label, value in labels.items() if label not in {"job", "instance"}})
        assert name == "up" or any(own <= each for each in existing[name]), (name, labels)


def test_each_alert_has_a_promtool_case_that_fires_and_one_that_does_not() -> None:
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


def fields_of_a_user_storage(path: list[str]) -> Any:
    """Return the schema of the field of a UserStorage; of an item if the field is a list."""
    crd = yaml.safe_load((ROOT / "deploy/crds/userstorage.dev_userstorages.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for name in path:
        schema = schema["properties"][name]
    return schema.get("items", schema)


def test_kube_state_metrics_reads_fields_that_exist() -> None:
    values = yaml.safe_load((rules.FOLDER / "kube-state-metrics.yaml").read_text())["kube-state-metrics"]
    [resource] = values["customResourceState"]["config"]["spec"]["resources"]
    assert resource["groupVersionKind"] == {"group": "userstorage.dev", "version": "v1", "kind": "UserStorage"}
    assert values["rbac"]["extraRules"] == [
        {"apiGroups": ["userstorage.dev"], "resources": ["userstorages"], "verbs": ["list", "watch"]}
    ]
    for metric in resource["metrics"]:
        [description] = [each for name, each in metric["each"].items() if name != "type"]
        path = description.get("path", [])
        if path[:1] == ["metadata"]:
            continue
        schema = fields_of_a_user_storage(path)
        for label in description.get("labelsFromPath", {}).values():
            fields_of_a_user_storage([*path, *label]) if not path else schema["properties"][label[0]]
        if "valueFrom" in description:
            assert schema["properties"][description["valueFrom"][0]]["enum"] == ["True", "False", "Unknown"]
        if "list" in description:
            assert description["list"] == schema["enum"]


def test_alerts_link_to_the_published_runbook() -> None:
    rule = yaml.safe_load((rules.FOLDER / "prometheusrule.yaml").read_text())
    links = [
        entry["annotations"]["runbook_url"] for group in rule["spec"]["groups"] for entry in group["rules"] if "alert" in entry
    ]
    assert len(links) == len(ALERTS)
    assert all(re.fullmatch(r"https://\S+/docs/runbook\.md#\w+", link) for link in links)


def test_every_query_of_the_dashboard_selects_cluster_and_namespace() -> None:
    panels = json.loads(dashboard())["panels"]
    for query in (target["expr"] for panel in panels for target in panel.get("targets", ())):
        used = re.findall(r"userstorage[_:][\w:]+(\{[^}]*\})?", query)
        assert used
        assert all('cluster=~"$cluster"' in selector for selector in used), query
    variables = [entry["name"] for entry in json.loads(dashboard())["templating"]["list"]]
    assert variables == ["datasource", "cluster", "namespace"]


def expressions() -> list[str]:
    panels = json.loads(dashboard())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [*queries, *(rule["expr"] for group in rules.groups() for rule in group["rules"])]


def test_metrics_in_queries_and_recording_rules_exist() -> None:
    existing = {sample.name for family in families() for sample in family.samples}
    used = {word for text in expressions() for word in re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", text)}
    assert used
    assert used - existing == set()
    recorded = {word for text in expressions() for word in re.findall(r"userstorage:[\w:]+", text)}
    assert recorded == set(rules.rules("record")), "every recording is used, and every used recording exists"


def test_metrics_in_the_runbook_exist() -> None:
    existing = {name for family in families() for name in (family.name, *(sample.name for sample in family.samples))}
    used = set(re.findall(r"(?<![:\w])(?:userstorage|process)_\w+", (ROOT / "docs/runbook.md").read_text()))
    assert used
    assert used - existing == set()


def test_label_values_in_queries_exist() -> None:
    """Fail if a query selects a label value that no series has: its alert would never fire."""
    existing: dict[str, set[tuple[str, str]]] = {}
    for family in families():
        for sample in family.samples:
            existing.setdefault(sample.name, set()).update(sample.labels.items())
    for text in expressions():
        for name, selector in re.findall(r"\b(userstorage_\w+)\{(.*?)\}", text):
            for label, values in re.findall(r'(\w+)=~?"(?!\$)(.*?)"', selector):
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
