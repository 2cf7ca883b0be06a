"""Runs a real Prometheus server on the loopback address, and promtool, which checks and tests rule files."""

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from localcluster import processes
from localcluster.addresses import free_port
from localcluster.errors import ClusterError
from localcluster.processes import Process
from localcluster.progress import Report, silent
from testservers import debian

ADDRESS = "127.0.0.1"
PACKAGE = "prometheus"
"""The Debian package that contains prometheus and promtool."""
_START_SECONDS = 30.0


def program(name: str, report: Report = silent) -> Path:
    """Return the path of the executable `name`, which is `prometheus` or `promtool`.

    If PATH does not have it, the Debian package is downloaded, once. Raises ClusterError if that fails.
    """
    return debian.program(name, PACKAGE, "usr/bin", report)


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool, and return its output and exit code. Raises ClusterError if promtool cannot be downloaded."""
    command = [str(program("promtool")), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)


class Prometheus:
    """One Prometheus server, with its data and log in `directory`. The caller writes the configuration file `config`."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.directory = directory.absolute()
        self.config = config.absolute()
        self.port = free_port(ADDRESS)
        self.log = self.directory / "prometheus.log"
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"http://{ADDRESS}:{self.port}"

    def start(self, report: Report = silent) -> Self:
        """Start the server, wait until it is ready, and return this object. Raises ClusterError if it does not become ready."""
        command = [
            str(program("prometheus", report)),
            f"--config.file={self.config}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={ADDRESS}:{self.port}",
        ]
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = processes.launch("prometheus", command, self.log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._ready():
            if not processes.alive(self._process) or time.monotonic() > deadline:
                self.stop()
                raise ClusterError(f"prometheus did not get ready: {processes.last_line(self.log)} (log: {self.log})")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """Stop the server with SIGKILL. A server that is not running is no error."""
        if self._process is not None:
            processes.kill([self._process])
            self._process = None

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):  # noqa: S310  # the http URL of this server
                return True
        except (urllib.error.URLError, OSError):
            return False
