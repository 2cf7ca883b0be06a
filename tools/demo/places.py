"""Where the demo runs: on a node made here (see `localcluster`), or on kind where a Docker engine answers."""

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import localcluster
from demo.kubectl import Kubectl
from localcluster import ClusterError
from localcluster.background import Background
from localcluster.kind import docker_answers, kind_cluster
from localcluster.progress import Report

KIND_NAME = "userstorage-demo"

_FORWARDING_SECONDS = 15.0


@dataclass(frozen=True)
class Place:
    """A cluster that runs. `reach` gives the URL at which this machine gets to a Service of namespace `default`, as of
    now: a forwarded port ends with the pod behind it.
    """

    kubectl: Kubectl
    reach: Callable[[str], str]


def choose(wanted: str) -> str:
    """Local or kind, for a choice that may be auto."""
    if wanted != "auto":
        return wanted
    return "kind" if docker_answers() else "local"


def start(choice: str, directory: Path, files: Path, report: Report) -> Place:
    """The cluster in `directory`, started unless it runs. `files` is the demo's own directory in there. ClusterError
    where there is none to be had.
    """
    if choice == "kind":
        return _start_kind(directory, files, report)
    cluster = localcluster.start(localcluster.Profile.NODE, directory, report)
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, files / "kubectl-cache")
    # The routes of the node make its Services answer on this machine too.
    return Place(kubectl, lambda service: f"http://{kubectl.get('service', service)['spec']['clusterIP']}")


def stop(directory: Path, files: Path) -> None:
    """End the cluster of that directory, whichever it is. ClusterError where that fails."""
    if (files / "kind").exists():
        Background("port-forward", files).stop()
        cluster = _kind(directory)
        try:
            if cluster.kind_path.exists():  # else the start ended before there was anything to delete
                cluster.delete()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ClusterError(f"kind cannot delete its cluster {KIND_NAME}: {error}") from error
        (directory / "kubeconfig").unlink(missing_ok=True)
    localcluster.stop(directory)


def _start_kind(directory: Path, files: Path, report: Report) -> Place:
    """By pytest-kind. Written where no Docker engine answers: it was never seen running, only its port forwarding was."""
    cluster = _kind(directory)
    report(f"kind: cluster {KIND_NAME}; the first time it downloads kind and a node image of 1 GB")
    (files / "kind").touch()  # before it is made, so that `down` finds half a cluster too
    try:
        cluster.create()
        cluster.ensure_kubectl()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"kind does not come up: {error}") from error
    kubectl = Kubectl(Path(cluster.kubectl_path).absolute(), directory / "kubeconfig", files / "kubectl-cache")
    return Place(kubectl, lambda service: forward(kubectl, service, files))


def _kind(directory: Path) -> Any:
    return kind_cluster(KIND_NAME, directory / "kubeconfig")


def forward(kubectl: Kubectl, service: str, files: Path) -> str:
    """Forward a free port of this machine to the pod behind a Service, in place of the last one; the URL of that port.
    ClusterError where that fails.
    """
    forwarder = Background("port-forward", files)
    forwarder.start(["/usr/bin/env", *kubectl.command, "port-forward", f"service/{service}", ":80"])
    deadline = time.monotonic() + _FORWARDING_SECONDS
    while time.monotonic() < deadline:
        if found := re.search(r"Forwarding from 127\.0\.0\.1:(\d+)", forwarder.log.read_text()):
            return f"http://127.0.0.1:{found[1]}"
        time.sleep(0.1)
    raise ClusterError(f"no port is forwarded to {service}: {forwarder.log.read_text().strip() or 'kubectl says nothing'}")
