"""kubectl against the cluster of the demo."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from localcluster import ClusterError

_SECONDS = 60


class Kubectl:
    """Commands as a person would type them."""

    def __init__(self, program: Path, kubeconfig: Path, cache: Path) -> None:
        self.program = program
        self.kubeconfig = kubeconfig
        # kubectl keeps by address what an API server serves, and the next cluster here may have the same address.
        self.command = [str(program), f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}"]

    def run(self, *arguments: str) -> str:
        """What the command prints. ClusterError, with kubectl's last line, where it fails."""
        # One connection that hangs must not hang the demo.
        command = [*self.command, "--request-timeout=30s", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"kubectl {' '.join(arguments)}: no answer within {_SECONDS} s") from error
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise ClusterError(f"kubectl {' '.join(arguments)}: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return done.stdout

    def wait_established(self, *definitions: str) -> None:
        """Wait until the API server serves these definitions (`crd/…`). ClusterError where it does not.

        kubectl wait gives up on one that is so new that its conditions are null, so it is asked again.
        """
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self.run("wait", "--for=condition=Established", *definitions)
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object of the namespace `default`. ClusterError where it is not there."""
        found: dict[str, Any] = json.loads(self.run("get", kind, name, "-o", "json"))
        return found
