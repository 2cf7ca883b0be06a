"""kubectl, as a person or a script would use it, for tests that look at the world from outside."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 180.0
"""Seconds. The operator's pauses between tries are 1, 3, 9, 27 and then 60 s, the garbage collector learns of a new kind every
30 s, and all of it may be three times slower on a busy machine. Costs nothing where what is waited for comes.
"""


class Kubectl:
    """Commands against one cluster."""

    def __init__(self, program: str, kubeconfig: Path) -> None:
        # A cache of its own: kubectl keeps what an API server serves by address, and test clusters share addresses.
        cache = kubeconfig.with_suffix(".cache")
        self._command = [program, f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}", "--request-timeout=60s"]
        self.kubeconfig = kubeconfig

    def logged_in(self, kubeconfig: Path) -> "Kubectl":
        """The same program with another login."""
        return Kubectl(self._command[0], kubeconfig)

    def command(self, *args: str) -> list[str]:
        """The whole command line, for a process that goes on beside the test: without a time limit."""
        return [*(part for part in self._command if not part.startswith("--request-timeout")), *args]

    def run(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002  # as subprocess has it
        """Run a command; with `check`, a failure ends the test with what kubectl said."""
        done = subprocess.run([*self._command, *args], input=input, capture_output=True, text=True, check=False, timeout=150)
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr or done.stdout}"
        return done

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects as a person would."""
        self.run("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def wait_established(self, *definitions: str) -> None:
        """Wait until the API server serves these definitions (`crd/…`). kubectl wait gives up on one that is so new that its
        conditions are null, so it is asked again.
        """
        eventually(lambda: self.run("wait", "--for=condition=Established", *definitions, check=False).returncode == 0)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """One object, None where it is not there."""
        found = self.run("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(found.stdout) if found.stdout else None

    def list_all(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        found: list[dict[str, Any]] = json.loads(self.run("get", kind, "-n", namespace, "-o", "json").stdout)["items"]
        return found

    def phase(self, name: str, namespace: str) -> str:
        """The phase of a UserStorage; empty where there is none yet."""
        phase: str = (self.get("userstorage", name, namespace) or {}).get("status", {}).get("phase", "")
        return phase

    def raw(self, path: str) -> str:
        """What the API server answers to GET `path`."""
        return self.run("get", "--raw", path).stdout


def eventually(condition: Callable[[], T], within: float = PATIENCE, every: float = 0.2) -> T:
    """The first truthy answer of `look`; the test fails, showing the last answer, where none comes in time."""
    deadline = time.monotonic() + within
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < deadline, f"not within {within} s; last seen: {answer!r}"
        time.sleep(every)
