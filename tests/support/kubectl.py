"""kubectl as people and scripts use it, for tests that observe a cluster from outside."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

from support import apiproxy
from support.apiproxy import ApiProxy, refusal

T = TypeVar("T")
PROGRAM = str(Path(sys.executable).with_name("kubectl"))
"""The kubectl of uv.lock. That of a local cluster is one executable with the API server, and each start costs several times as much."""
PATIENCE = 180.0
"""Seconds: the bound of every wait.

The operator retries after 1, 3, 9, 27 and then every 60 s, the garbage collector discovers a new kind within 30 s, and a busy
machine may be three times slower. A wait that succeeds does not take longer for a high bound.
"""
WAIT = f"--timeout={PATIENCE:.0f}s"
"""kubectl's option for commands that wait."""
COMMAND_TIMEOUT = 2 * PATIENCE
"""Seconds: only ends a command that hangs. More than `WAIT`, so that kubectl itself reports what did not happen in time."""


class Kubectl:
    """kubectl commands for one cluster. Single objects are read and written through `proxy`.

    In a `with` statement, the proxy ends with the block.
    """

    def __init__(self, kubeconfig: Path) -> None:
        # Its own cache: kubectl caches discovery by server address, and test clusters reuse addresses.
        cache = kubeconfig.with_suffix(".cache")
        self._command = [PROGRAM, f"--kubeconfig={kubeconfig}", f"--cache-dir={cache}", "--request-timeout=60s"]
        self.kubeconfig = kubeconfig
        self._started = ExitStack()
        self._config: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    @cached_property
    def proxy(self) -> ApiProxy:
        """The API server through `kubectl proxy`, which is started when it is first needed."""
        return self._started.enter_context(apiproxy.running(self.command()))

    def command(self, *args: str) -> list[str]:
        """Return a command line without request timeout, for a process that runs beside the test."""
        return [*(part for part in self._command if not part.startswith("--request-timeout")), *args]

    def run(self, *args: str, input: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:  # noqa: A002  # as subprocess has it
        """Run a command; with `check`, a failure fails the test with kubectl's output."""
        done = subprocess.run(
            [*self._command, *args], input=input, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT
        )
        assert not check or done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr or done.stdout}"
        return done

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects on the server's side; other managers lose the fields."""
        for manifest in objects:
            answer = self.proxy.apply(manifest)
            assert not refusal(answer), answer

    def delete(self, kind: str, *names: str, namespace: str = "") -> None:
        """Request the deletion of objects, without waiting for their end. Those that do not exist are passed over."""
        for name in names:
            answer = self.proxy.delete({"kind": kind, "metadata": {"name": name, "namespace": namespace}})
            assert not refusal(answer) or answer["code"] == 404, answer

    def token(self, account: str, namespace: str, hours: int = 1) -> str:
        """Return a new token of a service account."""
        return self.proxy.token(account, namespace, hours)

    def wait_established(self, *definitions: str) -> None:
        """Wait until the API server serves these CRDs (`crd/…`).

        kubectl wait fails on a CRD so new that its conditions are null, so it is retried.
        """
        eventually(lambda: self.run("wait", "--for=condition=Established", *definitions, check=False).returncode == 0)

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any] | None:
        """Return an object, or None if it does not exist."""
        return self.proxy.get(kind, name, namespace)

    def list_all(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """Return all objects of a kind in a namespace."""
        return self.proxy.list_all(kind, namespace)

    def phase(self, name: str, namespace: str) -> str:
        """Return the phase of a UserStorage, or an empty string if it has none yet."""
        phase: str = (self.get("userstorage", name, namespace) or {}).get("status", {}).get("phase", "")
        return phase

    def config(self) -> dict[str, Any]:
        """Return the kubeconfig of the current context, secrets included."""
        if self._config is None:
            self._config = self.run("config", "view", "--raw", "--minify", "-o", "json").stdout
        found: dict[str, Any] = json.loads(self._config)
        return found

    def raw(self, path: str) -> str:
        """Return the API server's response to GET `path`."""
        return self.run("get", "--raw", path).stdout


def eventually(condition: Callable[[], T], within: float = PATIENCE, every: float = 0.2) -> T:
    """Call `condition` until it returns a truthy value, and return that value. Fails with the last value after `within` s.

    The pauses are `every` s long at first, and grow with the wait: on a busy machine, requests would slow down what they wait for.
    """
    started = time.monotonic()
    while True:
        if value := condition():
            return value
        waited = time.monotonic() - started
        assert waited < within, f"not within {within} s; last value: {value!r}"
        time.sleep(max(every, min(waited / 20, 0.5)))


def until_equal(read: Callable[[], object], expected: object, within: float = PATIENCE) -> None:
    """Call `read` until it returns `expected`. Fails with the last value after `within` s."""
    last: object = None

    def is_equal() -> bool:
        nonlocal last
        last = read()
        return last == expected

    with suppress(AssertionError):
        eventually(is_equal, within)
    assert last == expected, f"not within {within} s; last value: {last!r}"


def until_unchanged(read: Callable[[], T], seconds: float, within: float = PATIENCE) -> T:
    """Call `read` until its value has been the same for `seconds`, and return the value. Fails after `within` s."""
    last, since = read(), time.monotonic()

    def is_unchanged() -> bool:
        nonlocal last, since
        if (now := read()) != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since > seconds

    eventually(is_unchanged, within, every=1)
    return last
