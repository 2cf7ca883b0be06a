"""Renders the kustomizations of `deploy/`, and validates the rendered objects against the schemas of Kubernetes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

ROOT = Path(__file__).parents[2]
KUBECTL = str(Path(sys.executable).with_name("kubectl"))
KUBERNETES = "1.36"
"""The version of Kubernetes whose schemas are used. The local cluster has the same version."""
WHOLE = ("deploy", "deploy/overlays/demo", "deploy/overlays/namespaced", "deploy/overlays/monitoring")
"""The directories that install the whole operator."""
PARTS = tuple(
    sorted(
        f"deploy/{path.parent.name}" for path in (ROOT / "deploy").glob("*/kustomization.yaml") if path.parent.name != "base"
    )
)
"""The directories that contain a part of the installation, such as the CRDs, and can be applied separately."""
FOREIGN = frozenset({"PodMonitor", "PrometheusRule", "ServiceMonitor"})
"""Kinds of the Prometheus operator; Kubernetes has no schema for them."""

Object = dict[str, Any]


class NotRendered(Exception):
    """`kubectl kustomize` failed. The message names the directory and has the error of kubectl."""


def render(directory: str) -> list[Object]:
    """Return the objects that `kubectl kustomize` renders from `directory`. Raises NotRendered if it fails."""
    done = subprocess.run([KUBECTL, "kustomize", str(ROOT / directory)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotRendered(f"{directory}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def schema_errors(objects: list[Object]) -> list[str]:
    """Return one line for each object that violates the Kubernetes schema of its kind or has an unknown field.

    Kinds that Kubernetes has no schema for, those in FOREIGN, are not checked.
    """
    return [
        f"{display_name(each)}: {error}" for each in objects if each["kind"] not in FOREIGN and (error := _schema_error(each))
    ]


def display_name(each: Object) -> str:
    """Return `kind/namespace/name` of an object, or `kind/name` if it has no namespace."""
    metadata = each["metadata"]
    return "/".join(part for part in (each["kind"], metadata.get("namespace", ""), metadata["name"]) if part)


def _schema_error(each: Object) -> str:
    try:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return f"{error}".partition("\n")[0] or type(error).__name__
    return ""
