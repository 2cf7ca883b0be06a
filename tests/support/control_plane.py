"""A control plane of which single programs are killed, stopped and started again, and whose etcd is compacted."""

import contextlib
import json
import os
import signal
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import localcluster
from conftest import install_manifests
from localcluster import ClusterError, processes
from localcluster.state import read
from support.kubectl import PATIENCE, Kubectl

PROFILE = "control-plane"
TRIES = 3
"""Starts of the exited programs: a controller manager exits if the API server takes long to start."""


def resume(profile: str, directory: Path) -> None:
    """Start every program again that has exited, of the cluster in that directory, and wait until pods can be scheduled."""
    for _ in range(TRIES):
        with contextlib.suppress(ClusterError):
            localcluster.start(profile, directory)
            return
    raise AssertionError("the control plane does not start again")


class ControlPlane:
    """A cluster of fake nodes in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started = contextlib.ExitStack()
        self._started.callback(localcluster.stop, directory)
        try:
            cluster = localcluster.start(PROFILE, directory)
            self.kubectl = install_manifests(self._started.enter_context(Kubectl(cluster.kubeconfig)))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the cluster."""
        self._started.close()

    def new_namespace(self) -> str:
        """Create a namespace and return its name."""
        name = f"own-{uuid.uuid4().hex[:8]}"
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def kill(self, *names: str) -> None:
        """Kill programs, such as etcd or kube-apiserver, with SIGKILL."""
        found = self.processes()
        processes.kill(found[name] for name in names)

    def resume(self) -> None:
        """Start every program again that has exited, and wait until pods can be scheduled."""
        resume(PROFILE, self._directory)

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Stop a program by SIGSTOP while the block runs: its connections stay open, and it does not answer."""
        pid = self.processes()[name].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def compact(self) -> None:
        """Have etcd forget every revision but the newest."""
        revision = self._etcd("range", {"key": "AA=="})["header"]["revision"]
        self._etcd("compaction", {"revision": revision, "physical": True})

    def processes(self) -> dict[str, processes.Process]:
        """Return the recorded programs by name."""
        found = read(self._directory / "state.json")
        assert found is not None
        return found.processes

    def _etcd(self, call: str, body: dict[str, Any]) -> Any:
        [url] = [
            option.partition("=")[2]
            for option in self.processes()["etcd"].command
            if option.startswith("--listen-client-urls=")
        ]
        request = urllib.request.Request(f"{url}/v3/kv/{call}", json.dumps(body).encode())  # noqa: S310  # a local port
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  # a local port
            return json.load(response)
