"""`python -m monitoring.scene PICTURE`: draw the dashboard with the metrics of two operators that a Prometheus server scrapes.

The operators run for four minutes on a cluster without containers. In that time two hundred users are created, ten more ask
for a class that does not exist, Redis fails and recovers, and the leader is killed.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import localcluster
from localcluster import processes
from localcluster.addresses import free_port
from localcluster.processes import Process
from localcluster.progress import Report, silent
from monitoring import picture
from monitoring.rules import FOLDER, SOURCE
from testservers.prometheus import Prometheus
from testservers.redis import RedisServer, ensure_installed

SCENE = 240
"""Seconds for which the operators run and are measured."""
_JOB = "userstorage-operator"
_NAMESPACE = "platform"


class Scene:
    """A running cluster, Redis, two operators and a Prometheus server, with methods that change them."""

    def __init__(self, directory: Path, report: Report) -> None:
        self._directory = directory
        self._report = report
        cluster = localcluster.start("control-plane", directory / "cluster", report)
        self._login = cluster.kubeconfig
        cache = f"--cache-dir={directory / 'kubectl-cache'}"  # the default cache could hold the answers of another cluster with the same address
        self._kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", cache]
        ensure_installed(silent)
        self.redis = RedisServer(directory / "redis").start()
        self.ports = (free_port(), free_port())
        self._operators: dict[int, Process] = {}
        self._token = ""

    def begin(self) -> Prometheus:
        """Start two operators, and return a running Prometheus server that scrapes them."""
        self.run("apply", "-k", str(FOLDER.parent / "crds"))
        self.run("apply", "-k", str(FOLDER.parent / "rbac"))
        self.run("create", "namespace", _NAMESPACE)
        self.run("create", "serviceaccount", "backend", "-n", _NAMESPACE)
        subject = f"--serviceaccount={_NAMESPACE}:backend"
        self.run("create", "clusterrolebinding", "backend", "--clusterrole=userstorage-view", subject)
        self._token = self.run("create", "token", "backend", "-n", _NAMESPACE).strip()
        for port in self.ports:
            options = ["run", f"--http-port={port}", "--leader-elect", f"--redis-url={self.redis.url}", "--sweep-period=60"]
            program = str(Path(sys.executable).with_name("userstorage-operator"))
            command = ["/usr/bin/env", f"KUBECONFIG={self._login}", program, *options]
            self._operators[port] = processes.launch(f"operator-{port}", command, self._directory / f"{port}.log")
        targets = [{"targets": [f"127.0.0.1:{port}" for port in self.ports]}]
        config = {
            "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
            "rule_files": [str(SOURCE)],
            "scrape_configs": [{"job_name": _JOB, "static_configs": targets}],
        }
        (self._directory / "prometheus.yaml").write_text(yaml.safe_dump(config))
        return Prometheus(self._directory / "prometheus", self._directory / "prometheus.yaml").start()

    def end(self) -> None:
        """Stop the operators, Redis and the cluster. The caller stops the Prometheus server."""
        processes.kill(self._operators.values())
        self.redis.stop()
        localcluster.stop(self._directory / "cluster")

    def run(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl against the cluster and return its standard output. Raises CalledProcessError if it fails."""
        return subprocess.run([*self._kubectl, *arguments], input=stdin, capture_output=True, text=True, check=True).stdout

    def users(self, first: int, last: int, **spec: Any) -> Callable[[], None]:
        """Return a function that creates or updates the UserStorages user-<first> to user-<last - 1>.

        `spec` is added to the spec of each.
        """
        items = [
            {
                "apiVersion": "userstorage.dev/v1",
                "kind": "UserStorage",
                "metadata": {"name": f"user-{number}", "namespace": _NAMESPACE},
                "spec": {"userID": f"user-{number}", **spec},
            }
            for number in range(first, last)
        ]
        return lambda: self._report_count(
            self.run("apply", "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
        )

    def delete_users(self, first: int, last: int) -> None:
        """Delete the UserStorages user-<first> to user-<last - 1>, without waiting for the end of the deletion."""
        self._report_count(
            self.run("delete", "us", "-n", _NAMESPACE, "--wait=false", *(f"user-{n}" for n in range(first, last)))
        )

    def end_leader(self) -> None:
        """Kill the operator that leads, so that the other operator takes over."""
        for port, process in self._operators.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as answer:
                if json.load(answer)["role"] == "leading":
                    processes.kill([process])
                    return

    def ask(self) -> None:
        """Request the user `user-7` from the read API of both operators. The response and all errors are ignored."""
        for port in self.ports:
            url = f"http://127.0.0.1:{port}/v1/users/user-7"
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})  # our own http URL
            with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(request, timeout=2) as response:  # noqa: S310  # as above
                response.read()

    def _report_count(self, output: str) -> None:
        self._report(f"{len(output.splitlines())} users")


def play(path: Path, report: Report) -> None:
    """Start the operators, make all changes to the cluster, and write a picture of the dashboard to the file `path`."""
    with tempfile.TemporaryDirectory(prefix="scene-") as directory:
        scene = Scene(Path(directory), report)
        try:
            prometheus = scene.begin()
            try:
                start = _follow(scene, report)
                picture.draw(prometheus.url, start, time.time(), path)
            finally:
                prometheus.stop()
        finally:
            scene.end()
    report(f"{path} drawn")


def _follow(scene: Scene, report: Report) -> float:
    """Make each change at its time, in seconds since the start. Return the start as Unix time, after SCENE seconds."""
    script: dict[int, tuple[str, Callable[[], Any]]] = {
        15: ("a hundred users are created", scene.users(0, 100)),
        50: ("a hundred more", scene.users(100, 200)),
        80: ("ten ask for a class that does not exist", scene.users(200, 210, className="no-such-class")),
        110: ("Redis is killed", scene.redis.kill),
        135: ("Redis is started again", scene.redis.start),
        155: ("forty are suspended", scene.users(0, 40, replicas=0)),
        175: ("the ten and twenty more are deleted", lambda: scene.delete_users(180, 210)),
        195: ("the leader is killed", scene.end_leader),
    }
    start = time.time()
    while (elapsed := time.time() - start) < SCENE:
        for second in [second for second in script if second <= elapsed]:
            description, action = script.pop(second)
            report(description)
            action()
        scene.ask()
        time.sleep(0.5)
    return start


if __name__ == "__main__":
    play(Path(sys.argv[1]), lambda text: print(text, flush=True))
