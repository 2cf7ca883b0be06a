"""Renders kustomizations and validates their objects."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

ROOT = Path(__file__).parents[2]
KUBECTL = str(Path(sys.executable).with_name("kubectl"))
KUBERNETES = "1.36"
"""The Kubernetes version of the schemas; the local cluster has the same."""
WHOLE = ("deploy", "deploy/overlays/demo", "deploy/overlays/namespaced", "deploy/overlays/monitoring")
"""Each of these directories installs the operator."""
PARTS = tuple(
    sorted(
        f"deploy/{path.parent.name}" for path in (ROOT / "deploy").glob("*/kustomization.yaml") if path.parent.name != "base"
    )
)
"""These directories are parts that can be applied separately."""
FOREIGN = frozenset({"PodMonitor", "PrometheusRule"})
"""Kinds of the Prometheus operator; Kubernetes has no schema for them."""

Object = dict[str, Any]


class NotRendered(Exception):
    """kubectl refused a kustomization. The message has the reason."""


def render(directory: str) -> list[Object]:
    """Return the objects of the kustomization in that directory. Raises NotRendered if kubectl refuses it."""
    done = subprocess.run([KUBECTL, "kustomize", str(ROOT / directory)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotRendered(f"{directory}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def schema_errors(objects: list[Object]) -> list[str]:
    """Return one line for each object that does not match the schema, or has an unknown field."""
    return [
        f"{display_name(each)}: {error}" for each in objects if each["kind"] not in FOREIGN and (error := _schema_error(each))
    ]


def display_name(each: Object) -> str:
    """Return kind, namespace and name of an object, separated by slashes."""
    metadata = each["metadata"]
    return "/".join(part for part in (each["kind"], metadata.get("namespace", ""), metadata["name"]) if part)


def _schema_error(each: Object) -> str:
    try:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return f"{error}".partition("\n")[0] or type(error).__name__
    return ""
