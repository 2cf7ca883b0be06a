"""The alerts and recording rules, and the forms they take."""

import re
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
SOURCE = FOLDER / "rules.yaml"
_UNITS = {"s": 1, "m": 60, "h": 3600}


def groups() -> list[dict[str, Any]]:
    """The groups of the plain rule file."""
    found: list[dict[str, Any]] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["groups"]
    return found


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """The rules of a kind, `alert` or `record`, by name."""
    return {rule[kind]: rule for group in groups() for rule in group["rules"] if kind in rule}


def prometheus_rule() -> str:
    """The same as an object for the Prometheus operator."""
    name = {"app.kubernetes.io/name": "userstorage-operator"}
    metadata = {"name": "userstorage-operator", "namespace": "userstorage-system", "labels": name}
    whole = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": {"groups": groups()},
    }
    text = yaml.safe_dump(whole, sort_keys=False, width=120, allow_unicode=True)
    return f"# Made from rules.yaml by `make format`; do not edit.\n{text}"


def hurried(divisor: int) -> dict[str, Any]:
    """The rules with every pause and every window `divisor` times shorter, for tests; and so is what a UserStorage may
    take to be Ready. Other thresholds stay.
    """

    def shorter(found: re.Match[str]) -> str:
        return f"{int(found[1]) * _UNITS[found[2]] * 1000 // divisor}ms"

    def hurry(rule: dict[str, Any]) -> dict[str, Any]:
        expression = re.sub(r"(?<=\[)(\d+)([smh])(?=\])", shorter, rule["expr"])
        expression = re.sub(
            r"(not_ready_longest_seconds\) >) (\d+)", lambda found: f"{found[1]} {int(found[2]) / divisor}", expression
        )
        pause = {"for": re.sub(r"^(\d+)([smh])$", shorter, rule["for"])} if "for" in rule else {}
        return {**rule, "expr": expression, **pause}

    return {"groups": [{**group, "rules": [hurry(rule) for rule in group["rules"]]} for group in groups()]}
