"""Runs a real Prometheus server on the loopback address, and promtool, which checks and tests rule files."""

import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from localcluster.progress import Report, silent
from testservers import debian
from testservers.server import Server

PACKAGE = "prometheus"
"""The Debian package that contains prometheus and promtool."""


def program(name: str, report: Report = silent) -> Path:
    """Return the path of the executable `name`, which is `prometheus` or `promtool`.

    If PATH does not have it, the Debian package is downloaded, once. Raises ClusterError if that fails.
    """
    return debian.program(name, PACKAGE, "usr/bin", report)


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool, and return its output and exit code. Raises ClusterError if promtool cannot be downloaded."""
    command = [str(program("promtool")), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)


class Prometheus(Server):
    """One Prometheus server, with its data and log in `directory`. The caller writes the configuration file `config`."""

    name = "prometheus"

    def __init__(self, directory: Path, config: Path) -> None:
        super().__init__(directory)
        self.config = config.absolute()

    def start(self, report: Report = silent) -> Self:
        """Start the server, wait until it is ready, and return this object. Raises ClusterError if it does not become ready."""
        return self.run(
            [
                str(program("prometheus", report)),
                f"--config.file={self.config}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--web.listen-address={self.address}",
            ]
        )

    def ready(self) -> bool:
        """Whether the server is ready, by its own account."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):  # noqa: S310  # the http URL of this server
                return True
        except (urllib.error.URLError, OSError):
            return False
