"""A program that goes on when the command that started it has ended, and that a later command finds again."""

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

_GOODBYE_SECONDS = 15.0


@dataclass(frozen=True)
class Background:
    """One program. Its record and its log are `<name>.json` and `<name>.log` in `directory`."""

    name: str
    directory: Path

    @property
    def log(self) -> Path:
        """What it said since it was last started."""
        return self.directory / f"{self.name}.log"

    def alive(self, context: str | None = None) -> bool:
        """Whether it runs and, where a context is given, was started for that one."""
        found = self._read()
        return found is not None and context in (None, found[1]) and processes.alive(found[0])

    def start(self, command: Sequence[str], context: str = "") -> None:
        """Start it in place of an earlier one. `context` is what else than the command it was started for.
        ClusterError where it cannot run.
        """
        self.end()
        self.log.unlink(missing_ok=True)
        process = processes.launch(self.name, command, self.log)
        record = {"process": asdict(process), "context": context}
        self._record.write_text(json.dumps(record, default=str))

    def end(self) -> bool:
        """Ask it to end and wait; killed where it does not listen. Returns whether it ran. ClusterError where it
        survives even that.
        """
        found = self._read()
        ran = found is not None and processes.alive(found[0])
        if found is not None and ran:
            os.kill(found[0].pid, signal.SIGTERM)
            deadline = time.monotonic() + _GOODBYE_SECONDS
            while processes.alive(found[0]) and time.monotonic() < deadline:
                time.sleep(0.05)
            processes.end([found[0]])
        self._record.unlink(missing_ok=True)
        return ran

    def kill(self) -> None:
        """End it without asking, and wait. ClusterError where it survives even that."""
        if found := self._read():
            processes.end([found[0]])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. ClusterError where it does not run."""
        found = self._read()
        if found is None or not processes.alive(found[0]):
            raise ClusterError(f"{self.name} does not run")
        os.kill(found[0].pid, number)

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
