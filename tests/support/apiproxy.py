"""Requests to the API server through `kubectl proxy`: a process of kubectl for each takes a hundred times as long."""

import http.client
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from support.kubectl import COMMAND_TIMEOUT, PATIENCE, Kubectl

Object = dict[str, Any]
_COLLECTIONS = {
    "Namespace": "namespaces",
    "Pod": "pods",
    "UserStorage": "userstorages",
    "UserStorageClass": "userstorageclasses",
}


@dataclass(frozen=True)
class ApiProxy:
    """A client of the API server with the rights of a kubeconfig."""

    port: int

    def create(self, manifest: Object, *, as_user: str = "", dry_run: bool = False, validation: str = "Strict") -> Object:
        """Create an object and return the answer, as `request` does. Unknown fields are refused, as `kubectl create` has it."""
        query = {"fieldValidation": validation} | ({"dryRun": "All"} if dry_run else {})
        return self.request("POST", f"{_collection(manifest)}?{urlencode(query)}", manifest, as_user)

    def replace(self, manifest: Object) -> Object:
        """Replace an object, which unlike a patch removes the fields that `manifest` lacks. Return the answer."""
        path = f"{_collection(manifest)}/{manifest['metadata']['name']}"
        version = self.request("GET", path)["metadata"]["resourceVersion"]
        metadata = manifest["metadata"] | {"resourceVersion": version}
        return self.request("PUT", f"{path}?fieldValidation=Strict", manifest | {"metadata": metadata})

    def delete(self, manifest: Object) -> Object:
        """Request the deletion of an object, and return the answer."""
        return self.request("DELETE", f"{_collection(manifest)}/{manifest['metadata']['name']}")

    def request(self, method: str, path: str, body: Object | None = None, as_user: str = "") -> Object:
        """Send a request and return the answer: an object, or a Status with `code` and `message` if the request is refused."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        if as_user:
            headers["Impersonate-User"] = as_user
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer: Object = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer


def refusal(answer: Object) -> str:
    """Return the message of an answer that refuses a request; an empty string if it does not."""
    return str(answer["message"]) if answer["kind"] == "Status" and answer["status"] == "Failure" else ""


def _collection(manifest: Object) -> str:
    version, namespace = manifest["apiVersion"], manifest["metadata"].get("namespace")
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}{f'/namespaces/{namespace}' if namespace else ''}/{_COLLECTIONS[manifest['kind']]}"


@contextmanager
def running(kubectl: Kubectl) -> Iterator[ApiProxy]:
    """Run `kubectl proxy` on a free port of the loopback address."""
    with subprocess.Popen(kubectl.command("proxy", "--port=0"), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found is not None
            yield ApiProxy(int(found[1]))
        finally:
            process.terminate()
            process.wait(timeout=COMMAND_TIMEOUT)
