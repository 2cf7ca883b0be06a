"""The cluster of the end-to-end tests, and how this machine reaches the Services there."""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from localcluster import processes, state
from localcluster.netns import Namespace
from support import fuse
from support.control_plane import resume
from support.kubectl import Kubectl, eventually


class ClusterAccess(Protocol):
    """A cluster with real containers."""

    @property
    def kubectl(self) -> Kubectl:
        """kubectl for the cluster."""

    @property
    def has_local_volumes(self) -> bool:
        """Whether volumes are directories of this machine, and pods are reachable at their own addresses."""

    def address(self, namespace: str, service: str) -> str:
        """Return the current host:port of a Service; it may change when the pod behind it is replaced."""

    def close(self) -> None:
        """Release the resources of the access, such as forwarded ports."""


@dataclass(frozen=True)
class LocalNode:
    """The node cluster that the test run created; this machine has routes to its pods and Services."""

    kubectl: Kubectl
    namespace: Namespace
    directory: Path
    has_local_volumes = True

    def api_server(self) -> processes.Process:
        """Return the process of the API server, which is another one after `resume`."""
        found = state.read(self.directory / "state.json")
        assert found is not None
        return found.processes["kube-apiserver"]

    def resume(self) -> None:
        """Start every program again that has exited, and wait until pods can be scheduled."""
        resume("node", self.directory)

    def address(self, namespace: str, service: str) -> str:
        found = self.kubectl.get("service", service, namespace)
        assert found is not None
        return f"{found['spec']['clusterIP']}:80"

    def small_file_system(self, directory: Path, size: str) -> None:
        """Mount a tmpfs of that size at the directory in the node's namespace; it is unmounted with the cluster."""
        directory.mkdir(parents=True)
        self.namespace.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0770", "tmpfs", str(directory)])

    def network_volume(self, directory: Path, log: Path) -> int:
        """Mount an empty network volume at the directory in the node's namespace; return the process id of its server."""
        process = self.namespace.launch("fuse", [sys.executable, str(Path(fuse.__file__)), str(directory)], log)
        eventually(lambda: "mounted" in log.read_text())
        return process.pid

    def close(self) -> None:
        """Do nothing: the routes are removed with the cluster."""


@dataclass(frozen=True)
class RemoteCluster:
    """Any other cluster, reached by forwarded ports: one for each pod, since forwarding ends with the pod."""

    kubectl: Kubectl
    has_local_volumes = False
    _forwarded: dict[str, str] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def address(self, namespace: str, service: str) -> str:
        pod = self.kubectl.get("pod", service, namespace)  # the pod has the name of its Service
        assert pod is not None
        uid = pod["metadata"]["uid"]
        if uid not in self._forwarded:
            self._forwarded[uid] = self._forward(namespace, service)
        return self._forwarded[uid]

    def close(self) -> None:
        self._open.close()

    def _forward(self, namespace: str, service: str) -> str:
        log = Path(self._open.enter_context(tempfile.TemporaryDirectory()), "output")
        # No --request-timeout: the request lasts as long as the forwarding.
        command = [self.kubectl._command[0], f"--kubeconfig={self.kubectl.kubeconfig}", "port-forward"]
        with log.open("w") as output:
            forwarding = subprocess.Popen(
                [*command, f"service/{service}", ":80", "-n", namespace], stdout=output, stderr=output
            )
        self._open.callback(forwarding.wait)
        self._open.callback(forwarding.terminate)
        found = eventually(lambda: re.search(r"Forwarding from (127\.0\.0\.1:\d+)", log.read_text()))
        assert found is not None
        return found[1]


def can_create_namespaces() -> bool:
    """Whether this process may create namespaces, which a node cluster needs.

    If so, a node cluster that does not start is a failure, else a reason to skip.
    """
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and tried.returncode == 0
