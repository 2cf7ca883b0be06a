"""Runs Helm, built from the Go module that tools/helm pins."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from localcluster.builds import GoProgram, build_go
from localcluster.errors import ClusterError
from localcluster.progress import Report, silent
from manifests.render import ROOT, Object

HELM = GoProgram("helm", "helm.sh/helm/v4/cmd/helm", modules=ROOT / "tools")


def helm(*arguments: str, report: Report = silent) -> str:
    """Run Helm and return its output. Raises ClusterError with Helm's error if it cannot be built or fails."""
    done = subprocess.run([build_go(HELM, report), *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"helm {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def template(chart: Path, values: Mapping[str, Any], *, namespace: str = "userstorage-system") -> list[Object]:
    """Return the objects that the chart renders with `values`. Raises ClusterError if they do not match the chart's schema."""
    options = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
    text = helm("template", "userstorage-operator", str(chart), f"--namespace={namespace}", *options)
    return [each for each in yaml.safe_load_all(text) if each]
