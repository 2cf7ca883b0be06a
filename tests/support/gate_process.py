"""The gate as a process, and the questions that gateways ask it."""

import base64
import gc
import http.client
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster.addresses import free_port
from support.apiproxy import ApiProxy, refusal
from support.inprocess import in_thread
from support.kubectl import PATIENCE, eventually
from support.logschema import check_line
from support.operator_process import ProgramProcess
from userstorage_operator import gate_app
from userstorage_operator.api.names import API_VERSION
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.gate_app import GateConfig
from userstorage_operator.runtime import logs

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


class GateDoor:
    """The two ports, the key file and the log of a gate in `directory`, as gateways and people use them."""

    def __init__(self, directory: Path) -> None:
        self.port, self.http_port = free_port(), free_port()
        self.log = directory / "gate.log"
        self.key_file = directory / "keys"
        self.key_file.write_text(f"{KEY}\n{NEXT_KEY}\n")

    def logged(self, event: str) -> list[dict[str, str]]:
        """Return the log lines of an event. Fails if any line is not as docs/observability.md has it."""
        return [line for line in map(check_line, self.log.read_text().splitlines()) if line["event"] == event]

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


class GateProcess(GateDoor, ProgramProcess):
    """A gate process."""

    def __init__(self, kubeconfig: Path, directory: Path, *options: str) -> None:
        GateDoor.__init__(self, directory)
        ports = (f"--port={self.port}", f"--http-port={self.http_port}")
        given = (f"--key-file={self.key_file}", *ports, "--log-format=json", *options)
        ProgramProcess.__init__(self, kubeconfig, self.log, "gate", *given)

    @property
    def url(self) -> str:
        """The URL of the door."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process and wait until its door is open."""
        self.launch()
        eventually(self.is_ready)


@contextmanager
def gate_for(kubeconfig: Path, directory: Path, *options: str) -> Iterator[GateProcess]:
    """Run a gate that reads the cluster of a kubeconfig."""
    gate = GateProcess(kubeconfig, directory, *options)
    gate.start()
    try:
        yield gate
    finally:
        gate.stop()


@contextmanager
def gate_in_thread(directory: Path, **settings: Any) -> Iterator[GateDoor]:
    """Run a gate in this process, whose constants a test can shorten; `settings` are fields of GateConfig. It reads the cluster of
    KUBECONFIG.
    """
    gate = GateDoor(directory)
    config = GateConfig(key_file=gate.key_file, port=gate.port, http_port=gate.http_port, **settings)
    with gate.log.open("w", buffering=1) as stream:
        logs.configure("info", json_format=True, stream=stream)
        try:
            with in_thread(lambda stop: gate_app.run(config, stop)):
                eventually(gate.is_ready)
                yield gate
        finally:
            gc.unfreeze()  # the gate has frozen the objects of the tests as well
            logs.configure("info", json_format=True)


class Users:
    """UserStorages with the status that an operator would write; no operator runs."""

    def __init__(self, api: ApiProxy, namespace: str) -> None:
        self._api = api
        self.namespace = namespace
        self.own_hosts = f"own-{namespace}"
        """Class whose users have a host each."""
        self.one_host = f"one-{namespace}"
        """Class whose users share `shared_host`, each below a path."""
        self.inside = f"inside-{namespace}"
        """Class whose users have no host."""

    @contextmanager
    def classes(self) -> Iterator[None]:
        """Create the three classes, and delete them at the end of the block."""
        one = {
            "network": {"expose": "Ingress", "hostTemplate": "${namespace}.example.org"},
            "browser": {"basePath": "/u/${slug}/"},
            "auth": {"headerName": "X-Files-User"},
        }
        with (
            self.class_with_hosts("own", "${slug}.${namespace}.example.org"),
            self._class(self.one_host, one),
            self._class(self.inside, {"network": {"expose": "ClusterIP"}}),
        ):
            yield

    def class_with_hosts(self, name: str, template: str) -> AbstractContextManager[str]:
        """Create a class whose users have hosts as in `template`, and delete it at the end of the block, which gets its name."""
        return self._class(f"{name}-{self.namespace}", {"network": {"expose": "Ingress", "hostTemplate": template}})

    @contextmanager
    def _class(self, name: str, spec: Unstructured) -> Iterator[str]:
        manifest = {"apiVersion": API_VERSION, "kind": "UserStorageClass", "metadata": {"name": name}, "spec": spec}
        assert not refusal(self._api.create(manifest))
        yield name
        self._api.delete(manifest)

    def touch(self) -> None:
        """Change an annotation of alice and of the class `own_hosts`."""
        patch = {"metadata": {"annotations": {"example.org/touched": secrets.token_hex(4)}}}
        for path in (self._path("alice"), f"/apis/{API_VERSION}/userstorageclasses/{self.own_hosts}"):
            self._send("PATCH", path, patch)

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
        manifest = {"apiVersion": API_VERSION, "kind": "UserStorage", "metadata": metadata, "spec": spec}
        assert not refusal(self._api.create(manifest))
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
        self._send("PATCH", self._path(name) + ("/status" if status else ""), patch)

    def delete(self, name: str) -> None:
        """Delete a UserStorage."""
        self._send("DELETE", self._path(name), None)

    def _path(self, name: str) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/userstorages/{name}"

    def _send(self, method: str, path: str, body: Unstructured | None) -> None:
        assert not refusal(self._api.request(method, path, body))


def _condition(raw: Unstructured, kind: str, *, is_true: bool, reason: str, message: str) -> Unstructured:
    return {
        "type": kind,
        "status": "True" if is_true else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": raw["metadata"]["generation"],
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
