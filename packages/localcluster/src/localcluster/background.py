"""A program that keeps running when the process that started it exits. A file on disk records its PID for later processes."""

import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from localcluster import processes
from localcluster.errors import ClusterError
from localcluster.processes import Process

_TERMINATION_GRACE_SECONDS = 15.0


@dataclass(frozen=True)
class Background:
    """A program in the background. In `directory`, `<name>.json` records its process, and `<name>.log` is its log."""

    name: str
    directory: Path

    @property
    def log(self) -> Path:
        """The file with the program's output since its last start."""
        return self.directory / f"{self.name}.log"

    def alive(self, context: str | None = None) -> bool:
        """Whether the program runs. If `context` is given, the program must also have been started with that context."""
        found = self._read()
        return found is not None and context in (None, found[1]) and processes.alive(found[0])

    @property
    def process(self) -> Process:
        """The record of the running program. Raises ClusterError if it does not run."""
        found = self._read()
        if found is None or not processes.alive(found[0]):
            raise ClusterError(f"{self.name} is not running")
        return found[0]

    def start(self, command: Sequence[str], context: str = "") -> None:
        """Start the program; if it runs already, stop it first. `context` is any string that identifies this run, for `alive`.

        Raises ClusterError if the program cannot be started.
        """
        self.stop()
        self.log.unlink(missing_ok=True)
        process = processes.launch(self.name, command, self.log)
        record = {"process": asdict(process), "context": context}
        self._record.write_text(json.dumps(record, default=str))

    def stop(self) -> bool:
        """Stop the program with SIGTERM, or with SIGKILL after 15 seconds. Return whether it was running.

        Raises ClusterError if it still runs 30 s after SIGKILL.
        """
        found = self._read()
        ran = found is not None and processes.alive(found[0])
        if found is not None and ran:
            os.kill(found[0].pid, signal.SIGTERM)
            deadline = time.monotonic() + _TERMINATION_GRACE_SECONDS
            while processes.alive(found[0]) and time.monotonic() < deadline:
                time.sleep(0.05)
            processes.kill([found[0]])
        self._record.unlink(missing_ok=True)
        return ran

    def kill(self) -> None:
        """Send SIGKILL if the program runs, and wait for its end. Raises ClusterError if it still runs after 30 s."""
        if found := self._read():
            processes.kill([found[0]])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program. Raises ClusterError if it does not run."""
        os.kill(self.process.pid, number)

    @property
    def _record(self) -> Path:
        return self.directory / f"{self.name}.json"

    def _read(self) -> tuple[Process, str] | None:
        try:
            record = json.loads(self._record.read_text())
        except FileNotFoundError:
            return None
        known = record["process"]
        process = Process(known["name"], tuple(known["command"]), Path(known["log"]), known["pid"], known["started"])
        return process, record["context"]
