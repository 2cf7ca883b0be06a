"""The program as users run it: a process with a kubeconfig."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Self

from support.kubectl import PATIENCE, eventually

PROGRAM = str(Path(sys.executable).with_name("userstorage-operator"))


class ProgramProcess:
    """A process of the program that can be started again; all runs append to one log file.

    In a `with` statement, it is stopped at the end of the block, and the end of the log is printed, which a failure shows.
    """

    program: ClassVar[tuple[str, ...]] = (PROGRAM,)

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._arguments = arguments
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            if self._process is not None:  # it does not end
                self._process.kill()
        print(self.log.read_text()[-4000:] if self.log.exists() else "never started")  # noqa: T201  # as the class says

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start the process without waiting."""
        with self.log.open("ab") as output:
            command = [*self.program, *self._arguments]
            self._process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=output)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal that does not end the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL, without a graceful shutdown."""
        self._stop_with(signal.SIGKILL)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code; 0 if the process is not running."""
        return self._stop_with(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for the process to exit by itself, and return its exit code."""
        assert self._process is not None
        code = self._process.wait(timeout=PATIENCE)
        self._process = None
        return code

    def exit_code(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        assert self._process is not None
        return self._process.poll()

    def _stop_with(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        return self.wait()


class OperatorProcess(ProgramProcess):
    """An operator process."""

    def __init__(self, kubeconfig: Path, log: Path, *options: str) -> None:
        super().__init__(kubeconfig, log, "run", "--http-port=0", "--log-format=json", *options)

    def start(self) -> None:
        """Start the process and wait until it logs `started`, after its first lists."""
        before = self.log.read_text().count('"started"') if self.log.exists() else 0
        self.launch()
        eventually(lambda: self.log.read_text().count('"started"') > before)


class BriefReportsProcess(OperatorProcess):
    """An operator whose reports wait for a moment only, so that a test can wait until none is owed."""

    program = (sys.executable, str(Path(__file__).with_name("brief_reports.py")))
