"""The steps by which a cluster comes up: start a program, note it, wait for what it brings."""

import time
from collections.abc import Callable, Sequence

from localcluster import components, processes
from localcluster.api import Api
from localcluster.errors import ClusterError
from localcluster.layout import Layout
from localcluster.progress import MORE, Report
from localcluster.state import State


class Starter:
    """Starts the programs of one cluster. Each is in the state file before the next one starts, so that `stop` finds
    all of them even if this process is killed on the way.
    """

    def __init__(self, layout: Layout, state: State, report: Report) -> None:
        self.layout = layout
        self.state = state
        self.report = report

    def run(self, name: str, command: Sequence[str], launch: processes.Launch = processes.launch) -> None:
        """Start a program in the background. ClusterError where it cannot run."""
        self.state.processes[name] = launch(name, command, self.layout.log(name))
        self.save()

    def save(self) -> None:
        """Write the state file."""
        self.state.write(self.layout.state)

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 180.0) -> None:
        """Wait until the condition holds. ClusterError where it does not within that time, or a program ends."""
        start = told = time.monotonic()
        while not condition():
            for process in self.state.processes.values():
                if not processes.alive(process):
                    reason = processes.last_line(process.log)
                    raise ClusterError(f"{process.name} ended while waiting for {what}: {reason} (log: {process.log})")
            now = time.monotonic()
            if now - start > seconds:
                raise ClusterError(f"{what}: not within {seconds:.0f} s; see the logs in {self.layout.logs}")
            if now - told > 1:
                told = now
                self.report(f"waiting for {what}, {now - start:.0f} s{MORE}")
            time.sleep(0.05)
        self.report(what)

    def run_control_plane(
        self,
        settings: components.Settings,
        api: Api,
        apiserver_options: Sequence[str],
        launch: processes.Launch = processes.launch,
    ) -> None:
        """Start etcd, API server, controller manager and scheduler, and wait until the first two serve."""
        layout = self.layout
        self.run("etcd", components.etcd_command(layout, settings), launch)
        self.run("kube-apiserver", components.apiserver_command(layout, settings, apiserver_options), launch)
        self.wait("API server ready", api.ready)
        self.run("kube-controller-manager", components.controller_manager_command(layout, settings), launch)
        self.run("kube-scheduler", components.scheduler_command(layout, settings), launch)

    def wait_for_default_account(self, api: Api) -> None:
        """Wait for the service account without which the namespace `default` takes no pods."""
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        self.wait("default service account there", lambda: api.exists(path))
