"""Starts and stops a server program on the loopback address."""

import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from localcluster import processes
from localcluster.addresses import free_port
from localcluster.errors import ClusterError
from localcluster.processes import Process

ADDRESS = "127.0.0.1"
_START_SECONDS = 60.0


class Server:
    """One server, with its files in `directory`. It listens on `port` of the loopback address, also after a restart."""

    name = "server"

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.port = free_port(ADDRESS)
        self.log = self.directory / f"{self.name}.log"
        self._command: Sequence[str] = ()
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """The address of the server, host:port."""
        return f"{ADDRESS}:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the server, if it speaks plain HTTP."""
        return f"http://{self.address}"

    def ready(self) -> bool:
        """Whether the server is ready: by default, whether it accepts connections."""
        try:
            with socket.create_connection((ADDRESS, self.port), timeout=1):
                return True
        except OSError:
            return False

    def run(self, command: Sequence[str]) -> Self:
        """Start the program with this command, wait until the server is ready, and return this object.

        Raises ClusterError if it does not become ready.
        """
        self._command = command
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = processes.launch(self.name, command, self.log)
        deadline = time.monotonic() + _START_SECONDS
        while not self.ready():
            if not processes.alive(self._process) or time.monotonic() > deadline:
                self.stop()
                raise ClusterError(f"{self.name} did not start: {processes.last_line(self.log)} (log: {self.log})")
            time.sleep(0.05)
        return self

    def restart(self) -> Self:
        """Start the stopped server again, with the command of its last start. Raises ClusterError as `run` does."""
        return self.run(self._command)

    def stop(self) -> None:
        """Stop the server with SIGKILL. A server that is not running is no error."""
        if self._process is not None:
            processes.kill([self._process])
            self._process = None

    def pause(self) -> None:
        """Suspend the server with SIGSTOP. The kernel still accepts connections for it, but no request is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the server after `pause`, with SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or not processes.alive(self._process):
            raise ClusterError(f"{self.name} is not running")
        os.kill(self._process.pid, number)
