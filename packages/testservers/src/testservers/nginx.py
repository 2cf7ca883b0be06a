"""Runs a real nginx on the loopback address, with the servers that a test configures."""

import socket
import time
from pathlib import Path
from typing import Self

from localcluster import processes
from localcluster.addresses import free_port
from localcluster.errors import ClusterError
from localcluster.processes import Process
from localcluster.progress import Report, silent
from testservers import debian

ADDRESS = "127.0.0.1"
PACKAGE = "nginx"
"""The Debian package with the program. It is not installed, because its installation starts a server."""
_START_SECONDS = 30.0
_CONFIG = """daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr info;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
{servers}
}}
"""


def program(report: Report = silent) -> Path:
    """Return the path of nginx. If PATH does not have it, the Debian package is downloaded, once.

    Raises ClusterError if that fails.
    """
    return debian.program("nginx", PACKAGE, "usr/sbin", report)


class Nginx:
    """One nginx, with its files in `directory`. It listens on `port` of the loopback address."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.port = free_port(ADDRESS)
        self.log = self.directory / "nginx.log"
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """The address of the server, host:port; `listen` of the servers names it."""
        return f"{ADDRESS}:{self.port}"

    def start(self, servers: str, report: Report = silent) -> Self:
        """Start nginx with these `server` blocks, wait until it listens, and return this object.

        Raises ClusterError if it does not start.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "nginx.conf"
        config.write_text(_CONFIG.format(directory=self.directory, servers=servers))
        command = [str(program(report)), "-e", "stderr", "-p", str(self.directory), "-c", str(config)]
        self._process = processes.launch("nginx", command, self.log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._listens():
            if not processes.alive(self._process) or time.monotonic() > deadline:
                self.stop()
                raise ClusterError(f"nginx did not start: {processes.last_line(self.log)} (log: {self.log})")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """Stop nginx with SIGKILL. A server that is not running is no error."""
        if self._process is not None:
            processes.kill([self._process])
            self._process = None

    def _listens(self) -> bool:
        try:
            with socket.create_connection((ADDRESS, self.port), timeout=1):
                return True
        except OSError:
            return False
