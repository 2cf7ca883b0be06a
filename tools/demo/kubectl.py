"""kubectl against the cluster of the demo."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from localcluster import ClusterError

_TIMEOUT = 60


class Kubectl:
    """kubectl commands as a person would type them."""

    def __init__(self, program: Path, kubeconfig: Path, cache: Path) -> None:
        self.program = program
        self.kubeconfig = kubeconfig
        # kubectl caches discovery by address, and the next cluster on this machine may have the same address.
        self.command = [str(program), f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}"]

    def run(self, *arguments: str) -> str:
        """Return the output of the command. Raises ClusterError with kubectl's last line if it fails."""
        # One hanging connection must not stop the demo.
        command = [*self.command, "--request-timeout=30s", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"kubectl {' '.join(arguments)}: no answer within {_TIMEOUT} s") from error
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise ClusterError(f"kubectl {' '.join(arguments)}: {lines[-1] if lines else f'exit code {done.returncode}'}")
        return done.stdout

    def wait_established(self, *definitions: str) -> None:
        """Wait until the API server serves these CRDs (`crd/…`). Raises ClusterError if it does not.

        `kubectl wait` fails if a CRD is so new that its conditions are null, so it is repeated.
        """
        deadline = time.monotonic() + _TIMEOUT
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
        """Return an object of the namespace `default`. Raises ClusterError if it does not exist."""
        found: dict[str, Any] = json.loads(self.run("get", kind, name, "-o", "json"))
        return found
