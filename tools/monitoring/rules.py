"""Reads the alerts and recording rules of rules.yaml, as they are, as a PrometheusRule, or with short durations for tests."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
SOURCE = FOLDER / "rules.yaml"
RUNBOOK = "docs/runbook.md"
"""The runbook as rules.yaml names it. In what is generated, its address stands instead."""
_UNITS = {"s": 1, "m": 60, "h": 3600}


def groups() -> list[dict[str, Any]]:
    """Return the rule groups of deploy/monitoring/rules.yaml."""
    found: list[dict[str, Any]] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["groups"]
    return found


def runbook_address() -> str:
    """Return the address of the runbook: `Runbook` of [project.urls] in pyproject.toml."""
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = project["urls"]["Runbook"]
    return address


def published_groups() -> list[dict[str, Any]]:
    """Return the rule groups with the absolute address of the runbook."""
    found, address = groups(), runbook_address()
    for group in found:
        for rule in group["rules"]:
            if "annotations" in rule:
                rule["annotations"]["runbook_url"] = rule["annotations"]["runbook_url"].replace(RUNBOOK, address)
    return found


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Return the alerts if `kind` is `alert`, or the recording rules if it is `record`, by name."""
    return {rule[kind]: rule for group in groups() for rule in group["rules"] if kind in rule}


def prometheus_rule() -> str:
    """Return the manifest of a PrometheusRule with all rules, as YAML text."""
    name = {"app.kubernetes.io/name": "userstorage-operator"}
    metadata = {"name": "userstorage-operator", "namespace": "userstorage-system", "labels": name}
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": {"groups": published_groups()},
    }
    text = yaml.safe_dump(manifest, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated from rules.yaml by `make format`; do not edit.\n{text}"


def accelerated(divisor: int) -> dict[str, Any]:
    """Return the content of a rule file whose alerts fire `divisor` times sooner, for tests.

    Every `for`, every range and the threshold of UserStorageLongNotReady are divided by `divisor`. All other thresholds stay.
    """

    def shorter(match: re.Match[str]) -> str:
        return f"{int(match[1]) * _UNITS[match[2]] * 1000 // divisor}ms"

    def accelerate(rule: dict[str, Any]) -> dict[str, Any]:
        expression = re.sub(r"(?<=\[)(\d+)([smh])(?=\])", shorter, rule["expr"])
        expression = re.sub(
            r"(not_ready_longest_seconds\) >) (\d+)", lambda match: f"{match[1]} {int(match[2]) / divisor}", expression
        )
        duration = {"for": re.sub(r"^(\d+)([smh])$", shorter, rule["for"])} if "for" in rule else {}
        return {**rule, "expr": expression, **duration}

    return {"groups": [{**group, "rules": [accelerate(rule) for rule in group["rules"]]} for group in groups()]}
