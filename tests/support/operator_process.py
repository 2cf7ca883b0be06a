"""The operator as users run it: a process with a kubeconfig."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.kubectl import eventually

PROGRAM = str(Path(sys.executable).with_name("userstorage-operator"))


class OperatorProcess:
    """Starts, kills and starts again; the log of all lives is in one file."""

    def __init__(self, kubeconfig: Path, log: Path, *options: str) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._options = options
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it has its first lists."""
        before = self.log.read_text().count('"started"') if self.log.exists() else 0
        self.launch()
        eventually(lambda: self.log.read_text().count('"started"') > before)

    def launch(self) -> None:
        """Start it and wait for nothing."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "run", "--http-port=0", "--log-format=json", *self._options],
                env=self._environment,
                stdout=output,
                stderr=output,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal that does not end it."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self._stop_with(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        return self._stop_with(signal.SIGTERM)

    def wait(self, within: float) -> int:
        """The exit code, once it has ended by itself."""
        assert self._process is not None
        code = self._process.wait(timeout=within)
        self._process = None
        return code

    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def _stop_with(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        code = self._process.wait(timeout=60)
        self._process = None
        return code
