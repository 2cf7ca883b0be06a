"""The objects of a kustomization."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml

ROOT = Path(__file__).parents[2]
KUBECTL = str(Path(sys.executable).with_name("kubectl"))
KUBERNETES = "1.36"
"""The version whose schemas the objects are held against: that of the local cluster."""
WHOLE = ("deploy", "deploy/overlays/demo", "deploy/overlays/namespaced", "deploy/overlays/monitoring")
"""What one applies to have the operator."""
PARTS = tuple(
    sorted(
        f"deploy/{path.parent.name}" for path in (ROOT / "deploy").glob("*/kustomization.yaml") if path.parent.name != "base"
    )
)
"""What can be applied by itself."""
FOREIGN = frozenset({"PodMonitor", "PrometheusRule"})
"""Kinds of the Prometheus operator, of which Kubernetes has no schema."""

Object = dict[str, Any]


class NotRendered(Exception):
    """A kustomization that kubectl refuses; the message has its reason."""


def render(directory: str) -> list[Object]:
    """The objects of the kustomization there. Raises NotRendered."""
    done = subprocess.run([KUBECTL, "kustomize", str(ROOT / directory)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotRendered(f"{directory}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def faults(objects: list[Object]) -> list[str]:
    """What Kubernetes' schemas refuse, unknown fields among it: one line for each object."""
    return [f"{named(each)}: {fault}" for each in objects if each["kind"] not in FOREIGN and (fault := _fault(each))]


def named(each: Object) -> str:
    """An object as one says it: kind, namespace and name."""
    metadata = each["metadata"]
    return "/".join(part for part in (each["kind"], metadata.get("namespace", ""), metadata["name"]) if part)


def _fault(each: Object) -> str:
    try:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
        return f"{error}".partition("\n")[0] or type(error).__name__
    return ""
