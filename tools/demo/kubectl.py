"""Runs kubectl against a local cluster."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from localcluster import ClusterError

_TIMEOUT = 60


class Kubectl:
    """Runs kubectl commands with the kubeconfig of one cluster."""

    def __init__(self, program: Path, kubeconfig: Path, cache: Path) -> None:
        self.program = program
        self.kubeconfig = kubeconfig
        # kubectl caches discovery by address, and the next cluster on this machine may have the same address.
        self.command = [str(program), f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}"]

    def run(self, *arguments: str) -> str:
        """Run kubectl with these arguments and return its standard output.

        Raises ClusterError with the last line that kubectl printed, if the command fails.
        """
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
        """Wait until the CRDs are Established. `definitions` are their names, with the prefix `crd/`.

        `kubectl wait` is repeated, because it fails while a new CRD has no conditions. Raises ClusterError after a minute.
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

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """Return the object of that kind and name in that namespace. Raises ClusterError if it does not exist."""
        found: dict[str, Any] = json.loads(self.run("get", kind, name, "-n", namespace, "-o", "json"))
        return found
