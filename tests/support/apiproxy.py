"""Requests to the API server through `kubectl proxy`: a process of kubectl for each takes a hundred times the processor."""

import http.client
import json
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

Object = dict[str, Any]
_SECONDS = 60.0
"""Time limit of a request, and of the end of the proxy."""
_TRIES = 10
_LIVING = (
    "/apis/userstorage.dev/v1/namespaces/{namespace}/userstorages",
    "/api/v1/namespaces/{namespace}/pods",
    "/api/v1/namespaces/{namespace}/persistentvolumeclaims",
)
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class ApiProxy:
    """A client of the API server with the rights of a kubeconfig. A kind is named as for kubectl: `pod`, `pods`, `us`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._paths: dict[str, tuple[str, str, bool]] = {}
        """Name of a kind -> path of its group and version, plural, and whether it is namespaced."""

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        """Return an object, or None if it does not exist."""
        answer = self.request("GET", f"{self._collection(kind, namespace)}/{name}")
        if answer["kind"] == "Status" and answer["code"] == 404:
            return None
        assert not refusal(answer), answer
        return answer

    def list_all(self, kind: str, namespace: str) -> list[Object]:
        """Return all objects of a kind in a namespace, each with its kind as kubectl returns them."""
        answer = self.request("GET", self._collection(kind, namespace))
        assert not refusal(answer), answer
        common = {"apiVersion": answer["apiVersion"], "kind": answer["kind"].removesuffix("List")}
        return [common | item for item in answer["items"]]

    def create(self, manifest: Object, *, as_user: str = "", dry_run: bool = False, validation: str = "Strict") -> Object:
        """Create an object and return the answer, as `request` does. Unknown fields are refused, as `kubectl create` has it."""
        query = {"fieldValidation": validation} | ({"dryRun": "All"} if dry_run else {})
        return self.request("POST", f"{self._collection_of(manifest)}?{urlencode(query)}", manifest, as_user)

    def apply(self, manifest: Object) -> Object:
        """Apply an object on the server's side, as `kubectl apply --server-side --force-conflicts` does, and return the answer."""
        query = {"fieldManager": "kubectl", "force": "true", "fieldValidation": "Strict"}
        path = f"{self._collection_of(manifest)}/{manifest['metadata']['name']}?{urlencode(query)}"
        return self._send("PATCH", path, json.dumps(manifest), {"Content-Type": "application/apply-patch+yaml"})

    def replace(self, manifest: Object) -> Object:
        """Replace an object, which unlike a patch removes the fields that `manifest` lacks. Return the answer."""
        path = f"{self._collection_of(manifest)}/{manifest['metadata']['name']}"
        version = self.request("GET", path)["metadata"]["resourceVersion"]
        metadata = manifest["metadata"] | {"resourceVersion": version}
        return self.request("PUT", f"{path}?fieldValidation=Strict", manifest | {"metadata": metadata})

    def delete(self, manifest: Object) -> Object:
        """Request the deletion of an object, and return the answer."""
        return self.request("DELETE", f"{self._collection_of(manifest)}/{manifest['metadata']['name']}")

    def token(self, account: str, namespace: str, hours: int = 1) -> str:
        """Return a new token of a service account."""
        path = f"{self._collection('serviceaccount', namespace)}/{account}/token"
        answer = self.request("POST", path, {"spec": {"expirationSeconds": hours * 3600}})
        assert not refusal(answer), answer
        token: str = answer["status"]["token"]
        return token

    def request(self, method: str, path: str, body: Object | None = None, as_user: str = "") -> Object:
        """Send a request and return the answer: an object, or a Status with `code` and `message` if the request is refused."""
        headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        if as_user:
            headers["Impersonate-User"] = as_user
        return self._send(method, path, None if body is None else json.dumps(body), headers)

    def _send(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Object:
        """Send a request, and again as long as the API server asks for that, as client-go does."""
        for _ in range(_TRIES):
            answer = self._send_once(method, path, body, headers)
            if answer.get("code") != http.client.TOO_MANY_REQUESTS or "retryAfterSeconds" not in answer.get("details", {}):
                break
            time.sleep(answer["details"]["retryAfterSeconds"])
        return answer

    def _send_once(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Object:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if not text.startswith("{"):  # of a path that is not served, or of the proxy itself
            return {"kind": "Status", "status": "Failure", "code": response.status, "message": text}
        answer: Object = json.loads(text)
        return answer

    def _collection_of(self, manifest: Object) -> str:
        return self._collection(manifest["kind"], manifest["metadata"].get("namespace", "default"))

    def _collection(self, kind: str, namespace: str) -> str:
        """Return the path of the collection of a kind; a kind that is cluster-scoped has no namespace."""
        deadline = time.monotonic() + _SECONDS
        while kind.lower() not in self._paths:  # that of a new CRD is discovered a moment after it is served
            assert time.monotonic() < deadline, f"the API server does not serve {kind!r}"
            self._paths = self._discover()
            time.sleep(0.1)
        root, plural, namespaced = self._paths[kind.lower()]
        return f"{root}/namespaces/{namespace}/{plural}" if namespaced else f"{root}/{plural}"

    def _discover(self) -> dict[str, tuple[str, str, bool]]:
        """Ask the API server for the kinds that it serves. If two have the same name, that of the first group is meant."""
        found: dict[str, tuple[str, str, bool]] = {}
        for root in ("/api", "/apis"):
            for group in self._send("GET", root, None, {"Accept": _DISCOVERY})["items"]:
                prefix = f"{root}/{group['metadata']['name']}" if root == "/apis" else root
                for version in group["versions"]:
                    for resource in version.get("resources", ()):
                        plural = resource["resource"]
                        names = (plural, resource["singularResource"], resource["responseKind"]["kind"].lower())
                        entry = f"{prefix}/{version['version']}", plural, resource["scope"] == "Namespaced"
                        for name in (*names, *resource.get("shortNames", ())):
                            found.setdefault(name, entry)
        return found


@contextmanager
def new_namespace(api: ApiProxy, *, delete: bool = True) -> Iterator[str]:
    """Create a namespace that enforces Pod Security `restricted`, and request its deletion at the end of the block.

    Without `delete`, only that of its users, pods and claims: the rest takes no room, and the end of a namespace costs the API
    server two requests for each kind that it serves.
    """
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    assert not refusal(api.create(manifest))
    yield name
    if delete:
        api.delete(manifest)
        return
    for collection in _LIVING:
        api.request("DELETE", f"{collection.format(namespace=name)}?gracePeriodSeconds=0")


def refusal(answer: Object) -> str:
    """Return the message of an answer that refuses a request; an empty string if it does not."""
    return str(answer["message"]) if answer["kind"] == "Status" and answer["status"] == "Failure" else ""


@contextmanager
def running(kubectl: Sequence[str]) -> Iterator[ApiProxy]:
    """Run `kubectl proxy` on a free port of the loopback address; `kubectl` are the words before its command."""
    with subprocess.Popen([*kubectl, "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert found is not None
            yield ApiProxy(int(found[1]))
        finally:
            process.terminate()
            process.wait(timeout=_SECONDS)
