"""Starts and stops the cluster of the demo: kind if a Docker engine answers, else one node of `localcluster`."""

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
class DemoCluster:
    """The running cluster of the demo.

    `service_url` gets the name of a Service in the namespace `default`, and returns a URL by which this machine can reach it.
    On kind, the URL is no longer valid once the Service's pod is replaced, because the forwarded port is closed then.
    """

    kubectl: Kubectl
    service_url: Callable[[str], str]


def choose(choice: str) -> str:
    """Return the type of cluster, `local` or `kind`. The choice `auto` means `kind` if a Docker engine answers."""
    if choice != "auto":
        return choice
    return "kind" if docker_answers() else "local"


def start(choice: str, directory: Path, files: Path, report: Report) -> DemoCluster:
    """Return the running cluster whose state is in `directory`; start it first if it does not run.

    `choice` is `local` or `kind`. `files` is the folder in `directory` for the demo's other files. Raises ClusterError if the
    cluster does not start.
    """
    if choice == "kind":
        return _start_kind(directory, files, report)
    cluster = localcluster.start(localcluster.Profile.NODE, directory, report, browsers=["copyparty"])
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig, files / "kubectl-cache")
    # This machine has routes to the Services of the node.
    return DemoCluster(kubectl, lambda service: f"http://{kubectl.get('service', service)['spec']['clusterIP']}")


def stop(directory: Path, files: Path) -> None:
    """Stop the cluster whose state is in `directory`, of either type. `files` is as in `start`.

    Raises ClusterError if the cluster cannot be stopped.
    """
    if (files / "kind").exists():
        Background("port-forward", files).stop()
        cluster = _kind(directory)
        try:
            if cluster.kind_path.exists():  # else the start failed before anything was created
                cluster.delete()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ClusterError(f"kind cannot delete its cluster {KIND_NAME}: {error}") from error
        (directory / "kubeconfig").unlink(missing_ok=True)
    localcluster.stop(directory)


def _start_kind(directory: Path, files: Path, report: Report) -> DemoCluster:
    """Start a kind cluster with pytest-kind and return it.

    This function has never run, because the author's machine has no Docker engine. Only `forward` has been tried.
    """
    cluster = _kind(directory)
    report(f"kind: cluster {KIND_NAME}; the first time it downloads kind and a node image of 1 GB")
    (files / "kind").touch()  # before the cluster is created, so that `down` also finds an incomplete one
    try:
        cluster.create()
        cluster.ensure_kubectl()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ClusterError(f"kind cannot create its cluster: {error}") from error
    kubectl = Kubectl(Path(cluster.kubectl_path).absolute(), directory / "kubeconfig", files / "kubectl-cache")
    return DemoCluster(kubectl, lambda service: forward(kubectl, service, files))


def _kind(directory: Path) -> Any:
    return kind_cluster(KIND_NAME, directory / "kubeconfig")


def forward(kubectl: Kubectl, service: str, files: Path) -> str:
    """Forward a free port of this machine to the pod of a Service, and return the URL of that port.

    The port of an earlier call is closed. Raises ClusterError if kubectl cannot forward a port.
    """
    forwarder = Background("port-forward", files)
    forwarder.start(["/usr/bin/env", *kubectl.command, "port-forward", f"service/{service}", ":80"])
    deadline = time.monotonic() + _FORWARDING_SECONDS
    while time.monotonic() < deadline:
        if found := re.search(r"Forwarding from 127\.0\.0\.1:(\d+)", forwarder.log.read_text()):
            return f"http://127.0.0.1:{found[1]}"
        time.sleep(0.1)
    raise ClusterError(f"kubectl forwards no port to {service}: {forwarder.log.read_text().strip() or 'no output'}")
