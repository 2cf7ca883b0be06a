"""Starts and deletes a cluster with kind, which needs a Docker engine.

This module was written on a machine without Docker and has never run.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from localcluster.errors import ClusterError

PROFILE = "kind"
_NAME = "userstorage"
_ENGINE_TIMEOUT = 30
"""Seconds. Some engines start at the first request."""
KIND_VERSION = "v0.30.0"
KUBECTL_VERSION = "v1.34.0"
"""Newer than the defaults of pytest-kind, which are of 2022: their API server lacks CEL functions that today's CRDs use."""


def docker_answers() -> bool:
    """Whether a Docker engine answers. An installed `docker` command is not enough."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=_ENGINE_TIMEOUT).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def kind_cluster(name: str, kubeconfig: Path) -> Any:
    """Return a pytest_kind.KindCluster for the kind cluster `name`. This call creates no cluster."""
    os.environ.setdefault("KIND_VERSION", KIND_VERSION)
    os.environ.setdefault("KUBECTL_VERSION", KUBECTL_VERSION)
    from pytest_kind.cluster import KindCluster  # type: ignore[import-untyped] # noqa: PLC0415  # it reads the variables at import

    return KindCluster(name, kubeconfig=kubeconfig)


def up(directory: Path) -> Path:
    """Start the kind cluster unless it runs. Return the path of its kubeconfig, which is in `directory`.

    Raises ClusterError if no Docker engine answers, or if the cluster does not start.
    """
    if not docker_answers():
        raise ClusterError("no Docker engine answers, and kind needs one: use the profile control-plane or node")
    directory.mkdir(parents=True, exist_ok=True)
    kubeconfig = directory / "kubeconfig"
    (directory / PROFILE).touch()  # before the cluster is created, so that `down` also finds an incomplete one
    try:
        kind_cluster(_NAME, kubeconfig).create()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"kind cannot create its cluster: {error}") from error
    return kubeconfig


def down(directory: Path) -> None:
    """Delete the kind cluster that `up` started with this `directory`. Without such a cluster, nothing is deleted."""
    if not (directory / PROFILE).exists():
        return
    try:
        kind_cluster(_NAME, directory / "kubeconfig").delete()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"kind cannot delete its cluster {_NAME}: {error}") from error
    for name in (PROFILE, "kubeconfig"):
        (directory / name).unlink(missing_ok=True)
