"""Starts the programs of a cluster, records them, and waits until they answer."""

import time
from collections.abc import Callable, Sequence

from localcluster import components, processes
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.layout import Layout
from localcluster.progress import MORE, Report
from localcluster.state import State


class Starter:
    """Starts the programs of one cluster.

    Each program is recorded in the cluster's state file before the next one starts. So `cluster.stop` finds all programs, even
    if the process that starts the cluster is killed.
    """

    def __init__(self, layout: Layout, state: State, report: Report) -> None:
        self.layout = layout
        self.state = state
        self.report = report

    def run(self, name: str, command: Sequence[str], launch: processes.Launch = processes.launch) -> None:
        """Start the program `name` in the background and record its process. Raises ClusterError if it cannot be started."""
        self.state.processes[name] = launch(name, command, self.layout.log(name))
        self.save()

    def save(self) -> None:
        """Write `self.state` to the state file of the cluster."""
        self.state.write(self.layout.state)

    def wait(self, description: str, condition: Callable[[], bool], seconds: float = 180.0) -> None:
        """Wait until `condition` returns True, then report `description`.

        Raises ClusterError if that takes longer than `seconds`, or if a program of the cluster exits.
        """
        start = reported = time.monotonic()
        while not condition():
            for process in self.state.processes.values():
                if not processes.alive(process):
                    reason = processes.last_line(process.log)
                    raise ClusterError(f"{process.name} exited while waiting for {description}: {reason} (log: {process.log})")
            now = time.monotonic()
            if now - start > seconds:
                raise ClusterError(f"{description}: not within {seconds:.0f} s; see the logs in {self.layout.logs}")
            if now - reported > 1:
                reported = now
                self.report(f"waiting for {description}, {now - start:.0f} s{MORE}")
            time.sleep(0.05)
        self.report(description)

    def run_control_plane(
        self,
        settings: components.Settings,
        api: Api,
        apiserver_options: Sequence[str],
        launch: processes.Launch = processes.launch,
    ) -> None:
        """Start etcd, API server, controller manager and scheduler. The last two start once the API server is ready."""
        layout = self.layout
        self.run("etcd", components.etcd_command(layout, settings), launch)
        self.run("kube-apiserver", components.apiserver_command(layout, settings, apiserver_options), launch)
        self.wait("API server ready", api.ready)
        self.run("kube-controller-manager", components.controller_manager_command(layout, settings), launch)
        self.run("kube-scheduler", components.scheduler_command(layout, settings), launch)

    def wait_for_default_account(self, api: Api) -> None:
        """Wait until the service account `default` exists. Before, no pod can be created in the namespace `default`."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        self.wait("default service account created", lambda: api.exists(path))
