"""A small Kubernetes API client that needs only the standard library."""

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster.errors import ClusterError

Object = dict[str, Any]

TIMEOUT_SECONDS = 10.0


class ApiError(ClusterError):
    """The API server refused a request (`code` is the HTTP status) or did not answer (`code` is 0)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """A client of one API server. It authenticates with `<user>.crt` and `<user>.key` of the directory `keys`."""

    def __init__(self, server: str, keys: Path, user: str = "admin") -> None:
        self._server = server
        context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        context.load_cert_chain(keys / f"{user}.crt", keys / f"{user}.key")
        # No proxy: the server is on this machine, even if the environment names a proxy.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str) -> Object:
        """Return the object or list at that path. Raises ApiError if the request fails."""
        response: Object = json.loads(self._request("GET", path, None, "application/json"))
        return response

    def create(self, path: str, item: Mapping[str, Any]) -> None:
        """Create an object in the collection at that path. Raises ApiError if the request fails."""
        self._request("POST", path, item, "application/json")

    def delete(self, path: str) -> None:
        """Delete the object at that path. Raises ApiError if the request fails."""
        self._request("DELETE", path, None, "application/json")

    def apply(self, path: str, item: Mapping[str, Any]) -> None:
        """Create or change the object at that path by server-side apply. Raises ApiError if the request fails."""
        query = "?fieldManager=localcluster&force=true"
        self._request("PATCH", path + query, item, "application/apply-patch+yaml")

    def ready(self) -> bool:
        """Whether the API server answers `/readyz` with ok."""
        try:
            return self._request("GET", "/readyz", None, "application/json") == b"ok"
        except ApiError:
            return False

    def exists(self, path: str) -> bool:
        """Whether the object at that path exists and can be read."""
        try:
            self.get(path)
        except ApiError:
            return False
        return True

    def node_ready(self, name: str) -> bool:
        """Whether the node exists and its condition Ready is true."""
        try:
            conditions = self.get(f"/api/v1/nodes/{name}")["status"].get("conditions", [])
        except ApiError:
            return False
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, content_type: str) -> bytes:
        request = urllib.request.Request(  # noqa: S310 (the URL is that of the cluster's API server)
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": content_type},
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                content: bytes = response.read()
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, f"{method} {path}: {error.read().decode(errors='replace')[:300]}") from error
        except (OSError, TimeoutError) as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        return content
