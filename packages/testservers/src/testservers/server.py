"""Starts and stops a server program on the loopback address."""

import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from localcluster import processes
from localcluster.addresses import free_port
from localcluster.background import Background
from localcluster.errors import ClusterError

ADDRESS = "127.0.0.1"
_START_SECONDS = 60.0


class Server:
    """One server, with its files in `directory`. It listens on `port` of the loopback address, also after a restart.

    It keeps running when the process that started it exits.
    """

    name = "server"

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.port = free_port(ADDRESS)
        self._background = Background(self.name, self.directory)
        self._command: Sequence[str] = ()

    @property
    def log(self) -> Path:
        """The file with the output of the server since its last start."""
        return self._background.log

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
        self._background.start(command)
        deadline = time.monotonic() + _START_SECONDS
        while not self.ready():
            if not self._background.alive() or time.monotonic() > deadline:
                self.stop()
                raise ClusterError(f"{self.name} did not start: {processes.last_line(self.log)} (log: {self.log})")
            time.sleep(0.05)
        return self

    def restart(self) -> Self:
        """Start the stopped server again, with the command of its last start. Raises ClusterError as `run` does."""
        return self.run(self._command)

    def stop(self) -> None:
        """Stop the server with SIGKILL. A server that is not running is no error."""
        self._background.kill()
        self._background.stop()

    def pause(self) -> None:
        """Suspend the server with SIGSTOP. The kernel still accepts connections for it, but no request is answered."""
        self._background.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume the server after `pause`, with SIGCONT."""
        self._background.signal(signal.SIGCONT)

    def peak_memory(self) -> int:
        """Return the most memory that the server has had resident, in bytes. Raises ClusterError if it does not run."""
        status = (processes.PROC / str(self._background.process.pid) / "status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
