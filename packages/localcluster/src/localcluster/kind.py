"""kind, for machines where a Docker engine answers. Never run on the machine this was written on, which has none."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from localcluster.errors import ClusterError

PROFILE = "kind"
_NAME = "userstorage"
_PATIENCE = 30
"""Seconds for an engine that starts when it is asked."""
KIND_VERSION = "v0.30.0"
KUBECTL_VERSION = "v1.34.0"
"""pytest-kind's own defaults are of 2022: that API server lacks functions that the rules of our CRDs call."""


def docker_answers() -> bool:
    """Whether there is a Docker engine, wherever it listens: the client alone makes no cluster."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "version"], capture_output=True, check=False, timeout=_PATIENCE).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def kind_cluster(name: str, kubeconfig: Path) -> Any:
    """A pytest_kind.KindCluster, not yet created."""
    os.environ.setdefault("KIND_VERSION", KIND_VERSION)
    os.environ.setdefault("KUBECTL_VERSION", KUBECTL_VERSION)
    from pytest_kind.cluster import KindCluster  # type: ignore[import-untyped] # noqa: PLC0415  # reads them when imported

    return KindCluster(name, kubeconfig=kubeconfig)


def up(directory: Path) -> Path:
    """The kubeconfig of the kind cluster of `directory`, started unless it runs. ClusterError where it does not come up."""
    if not docker_answers():
        raise ClusterError("kind needs a Docker engine, and none answers: use the profile control-plane or node")
    directory.mkdir(parents=True, exist_ok=True)
    kubeconfig = directory / "kubeconfig"
    (directory / PROFILE).touch()  # before it is made, so that `down` finds half a cluster too
    try:
        kind_cluster(_NAME, kubeconfig).create()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"kind does not come up: {error}") from error
    return kubeconfig


def down(directory: Path) -> None:
    """End the kind cluster of `directory`; nothing happens where there is none."""
    if not (directory / PROFILE).exists():
        return
    try:
        kind_cluster(_NAME, directory / "kubeconfig").delete()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"kind cannot delete its cluster {_NAME}: {error}") from error
    for name in (PROFILE, "kubeconfig"):
        (directory / name).unlink(missing_ok=True)
