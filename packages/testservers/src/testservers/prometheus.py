"""A real Prometheus of one's own, on loopback, and promtool, which checks what is meant for it."""

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from localcluster import cache, packages, processes
from localcluster.addresses import free_port
from localcluster.errors import ClusterError
from localcluster.processes import Process
from localcluster.progress import Report, silent

ADDRESS = "127.0.0.1"
PACKAGE = "prometheus"
"""The Debian package that holds both programs."""
_START_SECONDS = 30.0


def program(name: str, report: Report = silent) -> Path:
    """Where `prometheus` or `promtool` is: in the path, else out of Debian's package, fetched once. ClusterError where
    it cannot be had.
    """
    if (found := shutil.which(name)) is not None:
        return Path(found)
    report(f"looking for {name} in the Debian package {PACKAGE}")
    try:
        files = cache.entry("debian-prometheus", [PACKAGE], lambda directory: packages.unpack(PACKAGE, directory))
    except ClusterError as error:
        raise ClusterError(f"no {name} in the path, and none to be had: {error.args[0]}") from error
    return files / "usr/bin" / name


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool. ClusterError where it cannot be had; its own exit code says what it thinks."""
    command = [str(program("promtool")), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)


class Prometheus:
    """One server with its files in `directory`; the caller writes its configuration file."""

    def __init__(self, directory: Path, config: Path) -> None:
        self.directory = directory.absolute()
        self.config = config.absolute()
        self.port = free_port(ADDRESS)
        self.log = self.directory / "prometheus.log"
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where its API is."""
        return f"http://{ADDRESS}:{self.port}"

    def start(self, report: Report = silent) -> Self:
        """Start it and wait until it answers. ClusterError where it does not."""
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
                raise ClusterError(f"prometheus does not serve: {processes.last_line(self.log)} (log: {self.log})")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it. Nothing happens where it does not run."""
        if self._process is not None:
            processes.end([self._process])
            self._process = None

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=1):  # noqa: S310  # our own http URL
                return True
        except (urllib.error.URLError, OSError):
            return False
