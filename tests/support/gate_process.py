"""The gate as a process, and the questions that gateways ask it."""

import base64
import http.client
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from localcluster.addresses import free_port
from support.kubectl import PATIENCE, Kubectl, eventually
from support.operator_process import PROGRAM
from userstorage_operator.api.names import API_VERSION
from userstorage_operator.api.unstructured import Unstructured

KEY = "canary-key-0123456789abcdefghijklmnop"
NEXT_KEY = "canary-next-0123456789abcdefghijklmnop"
WAITING = {"auth-request": 403, "forward-auth": 503, "ext-authz": 429}
"""Dialect -> status for the owner of a file browser that is not Ready."""
NAVIGATION = (("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none"))


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of the gate."""

    status: int
    headers: http.client.HTTPMessage
    body: str

    @property
    def reason(self) -> str | None:
        """Why the request was refused, as far as the client learns it."""
        return self.headers["X-Userstorage-Reason"]


def basic(user: str, key: str = KEY) -> tuple[str, str]:
    """Return the header that proves a question."""
    return "Authorization", f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


class GateProcess:
    """A gate process; `launch` starts it again after its end."""

    def __init__(self, kubeconfig: Path, directory: Path, *options: str) -> None:
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._options = options
        self.port, self.http_port = free_port(), free_port()
        self.log = directory / "gate.log"
        self.key_file = directory / "keys"
        self.key_file.write_text(f"{KEY}\n{NEXT_KEY}\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process and wait until its door is open."""
        self.launch()
        eventually(self.is_ready)

    def launch(self) -> None:
        """Start the process without waiting."""
        ports = [f"--port={self.port}", f"--http-port={self.http_port}"]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "gate", f"--key-file={self.key_file}", *ports, "--log-format=json", *self._options],
                env=self._environment,
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        self._end_with(signal.SIGKILL)

    def stop(self) -> int:
        """Send SIGTERM, wait, and return the exit code; 0 if the process is not running."""
        return self._end_with(signal.SIGTERM)

    def _end_with(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(timeout=PATIENCE)
        self._process = None
        return code

    def is_ready(self) -> bool:
        """Whether /ready responds with 200."""
        return self.fetch("/ready") is not None

    def fetch(self, path: str) -> str | None:
        """Return the body of a GET on the health port; None if the response is an error or there is none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=PATIENCE) as response:
                text: str = response.read().decode()
                return text
        except (urllib.error.URLError, ConnectionError):
            return None

    def send(self, path: str, *headers: tuple[str, str], method: str = "GET", source: str = "127.0.0.1") -> Reply:
        """Send a request with exactly these headers, and return the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE, source_address=(source, 0))
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value.encode())
            connection.endheaders()
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def ask(
        self,
        dialect: str,
        user: str,
        host: str,
        *headers: tuple[str, str],
        uri: str = "/",
        method: str = "GET",
        key: str = KEY,
    ) -> Reply:
        """Ask as a gateway of that dialect does, about a request of `user` for `uri` at `host`; `headers` come from the client."""
        proof = basic(user, key)
        if dialect == "ext-authz":
            return self.send(f"/v1/authorize/ext-authz{uri}", ("Host", host), proof, *headers, method=method)
        if dialect == "auth-request":
            original = (("Host", host), ("X-Original-URI", uri), ("X-Original-Method", method))
        else:
            original = (("Host", "gate"), ("X-Forwarded-Host", host), ("X-Forwarded-Uri", uri), ("X-Forwarded-Method", method))  # type: ignore[assignment]
        return self.send(f"/v1/authorize/{dialect}", *original, proof, *headers)


@contextmanager
def gate_for(kubeconfig: Path, directory: Path, *options: str) -> Iterator[GateProcess]:
    """Run a gate that reads the cluster of a kubeconfig."""
    gate = GateProcess(kubeconfig, directory, *options)
    gate.start()
    try:
        yield gate
    finally:
        gate.stop()


class Users:
    """UserStorages with the status that an operator would write; no operator runs."""

    def __init__(self, api: Kubectl, namespace: str) -> None:
        self._api = api
        self.namespace = namespace
        self.own_hosts = f"own-{namespace}"
        """Class whose users have a host each."""
        self.one_host = f"one-{namespace}"
        """Class whose users share `shared_host`, each below a path."""
        self.inside = f"inside-{namespace}"
        """Class whose users have no host."""

    def create_classes(self) -> None:
        """Create the classes."""
        own = {"network": {"expose": "Ingress", "hostTemplate": "${slug}.${namespace}.example.org"}}
        one = {
            "network": {"expose": "Ingress", "hostTemplate": "${namespace}.example.org"},
            "browser": {"basePath": "/u/${slug}/"},
            "auth": {"headerName": "X-Files-User"},
        }
        for name, spec in ((self.own_hosts, own), (self.one_host, one), (self.inside, {"network": {"expose": "ClusterIP"}})):
            metadata = {"name": name}
            self._api.apply({"apiVersion": API_VERSION, "kind": "UserStorageClass", "metadata": metadata, "spec": spec})

    def delete_classes(self) -> None:
        """Delete the classes."""
        self._api.run("delete", "usc", self.own_hosts, self.one_host, self.inside, "--ignore-not-found")

    def host(self, slug: str) -> str:
        """Return the host of a user of the class `own_hosts`."""
        return f"{slug}.{self.namespace}.example.org"

    @property
    def shared_host(self) -> str:
        """The host of all users of the class `one_host`."""
        return f"{self.namespace}.example.org"

    def create(self, name: str, user_id: str | None = None, *, class_name: str | None = None, ready: bool = True) -> None:
        """Create a UserStorage that the operator has given its place; it is Ready unless `ready` is False."""
        metadata = {"name": name, "namespace": self.namespace}
        spec = {"userID": user_id or name, "className": class_name or self.own_hosts}
        self._api.apply({"apiVersion": API_VERSION, "kind": "UserStorage", "metadata": metadata, "spec": spec})
        self.report(name, ready=ready)

    def report(self, name: str, *, ready: bool = True, network: str = "Synced", message: str = "the pod starts") -> None:
        """Write the status of a reconcile: Ready, and the reason of NetworkReady."""
        raw = self._api.get("us", name, self.namespace)
        assert raw is not None
        conditions = [
            _condition(raw, "Ready", is_true=ready, reason="PodReady" if ready else "ContainerCreating", message=message),
            _condition(raw, "NetworkReady", is_true=network == "Synced", reason=network, message=""),
        ]
        self.patch(name, {"status": {"phase": "Ready" if ready else "Starting", "conditions": conditions}}, status=True)

    def patch(self, name: str, patch: Unstructured, *, status: bool = False) -> None:
        """Merge-patch a UserStorage, or its status."""
        part = ["--subresource=status"] if status else []
        self._api.run("patch", "us", name, "-n", self.namespace, "--type=merge", "-p", json.dumps(patch), *part)

    def delete(self, name: str) -> None:
        """Delete a UserStorage."""
        self._api.run("delete", "us", name, "-n", self.namespace)


def _condition(raw: Unstructured, kind: str, *, is_true: bool, reason: str, message: str) -> Unstructured:
    return {
        "type": kind,
        "status": "True" if is_true else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": raw["metadata"]["generation"],
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
