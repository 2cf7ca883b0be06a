"""The kubectl plugin as people run it: a process, with the kubeconfig of the test's cluster."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.kubectl import COMMAND_TIMEOUT

PROGRAM = str(Path(sys.executable).with_name("kubectl-userstorage"))
COMPLETE = str(Path(sys.executable).with_name("kubectl_complete-userstorage"))


class Plugin:
    """`kubectl userstorage` for one cluster and one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._kubeconfig = kubeconfig
        self._namespace = namespace

    def __call__(self, verb: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a verb in the namespace, and return the finished process."""
        return self.anywhere(verb, *arguments, "-n", self._namespace, **environment)

    def anywhere(self, *arguments: str, program: str = PROGRAM, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the program with these arguments alone, and return the finished process. Standard input is empty."""
        options = self._options(environment)
        return subprocess.run([program, *arguments], capture_output=True, timeout=COMMAND_TIMEOUT, check=False, **options)

    def start(self, verb: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a verb in the namespace that runs until it is stopped."""
        return self.start_anywhere(verb, *arguments, "-n", self._namespace, **environment)

    def start_anywhere(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the program with these arguments alone."""
        command, options = [PROGRAM, *arguments], self._options(environment)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def start_on(self, terminal: int, verb: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a verb in the namespace whose output is a terminal (a file descriptor)."""
        command = [PROGRAM, verb, *arguments, "-n", self._namespace]
        return subprocess.Popen(command, stdout=terminal, stderr=terminal, **self._options({"TERM": "xterm-256color"}))

    def _options(self, environment: dict[str, str]) -> dict[str, Any]:
        cluster = {"KUBECONFIG": str(self._kubeconfig), "PYTHONUNBUFFERED": "1"}
        return {"env": {**os.environ, **cluster, **environment}, "text": True, "stdin": subprocess.DEVNULL}
