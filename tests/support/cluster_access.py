"""Where the end-to-end tests run, and how this machine gets to the Services there."""

import os
import re
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from localcluster.netns import Namespace
from support.kubectl import Kubectl, eventually


class ClusterAccess(Protocol):
    """A cluster with real containers."""

    @property
    def kubectl(self) -> Kubectl:
        """The way in."""

    @property
    def has_local_volumes(self) -> bool:
        """Whether volumes are directories of this machine, and pods answer at their own addresses."""

    def address(self, namespace: str, service: str) -> str:
        """host:port at which this machine gets to a Service, as of now: it may change with the pod behind it."""

    def close(self) -> None:
        """Give back what it takes to get there."""


@dataclass(frozen=True)
class LocalNode:
    """The node that the tests made: this machine has routes to its pods and Services."""

    kubectl: Kubectl
    namespace: Namespace
    has_local_volumes = True

    def address(self, namespace: str, service: str) -> str:
        found = self.kubectl.get("service", service, namespace)
        assert found is not None
        return f"{found['spec']['clusterIP']}:80"

    def small_file_system(self, directory: Path, size: str) -> None:
        """Make the directory one with an end, as the node sees it; it goes with the cluster."""
        directory.mkdir(parents=True)
        self.namespace.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0770", "tmpfs", str(directory)])

    def close(self) -> None:
        """Nothing: the routes go with the cluster."""


@dataclass(frozen=True)
class RemoteCluster:
    """Any other cluster, by forwarded ports: one for every pod, since a forwarded port ends with its pod."""

    kubectl: Kubectl
    has_local_volumes = False
    _forwarded: dict[str, str] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def address(self, namespace: str, service: str) -> str:
        pod = self.kubectl.get("pod", service, namespace)  # it has the name of its Service
        assert pod is not None
        uid = pod["metadata"]["uid"]
        if uid not in self._forwarded:
            self._forwarded[uid] = self._forward(namespace, service)
        return self._forwarded[uid]

    def close(self) -> None:
        self._open.close()

    def _forward(self, namespace: str, service: str) -> str:
        said = Path(self._open.enter_context(tempfile.TemporaryDirectory()), "output")
        # Without kubectl's usual time limit on requests: this one goes on.
        command = [self.kubectl._command[0], f"--kubeconfig={self.kubectl.kubeconfig}", "port-forward"]
        with said.open("w") as output:
            forwarding = subprocess.Popen(
                [*command, f"service/{service}", ":80", "-n", namespace], stdout=output, stderr=output
            )
        self._open.callback(forwarding.wait)
        self._open.callback(forwarding.terminate)
        found = eventually(lambda: re.search(r"Forwarding from (127\.0\.0\.1:\d+)", said.read_text()))
        assert found is not None
        return found[1]


def can_create_namespaces() -> bool:
    """Whether this machine lets us do what a node takes: with that, a cluster that does not come up is a failure."""
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return os.geteuid() == 0 and tried.returncode == 0
