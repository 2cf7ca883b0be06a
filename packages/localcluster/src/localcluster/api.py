"""A small client of the Kubernetes API, written with the standard library alone."""

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
    """A client of one API server. Its client certificate is `<user>.crt`, with `<user>.key`, in the directory `keys`."""

    def __init__(self, server: str, keys: Path, user: str = "admin") -> None:
        self._server = server
        context = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        context.load_cert_chain(keys / f"{user}.crt", keys / f"{user}.key")
        # No proxy: the server is on this machine, even if the environment names a proxy.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str) -> Object:
        """Return the object or list at the URL path `path`. Raises ApiError if the request fails."""
        response: Object = json.loads(self._request("GET", path, None, "application/json"))
        return response

    def create(self, path: str, item: Mapping[str, Any]) -> None:
        """Create the object `item`; `path` is the URL path of its collection. Raises ApiError if the request fails."""
        self._request("POST", path, item, "application/json")

    def delete(self, path: str) -> None:
        """Delete the object at the URL path `path`. Raises ApiError if the request fails."""
        self._request("DELETE", path, None, "application/json")

    def apply(self, path: str, item: Mapping[str, Any]) -> None:
        """Create or change the object at the URL path `path` by server-side apply. Raises ApiError if the request fails."""
        query = "?fieldManager=localcluster&force=true"
        self._request("PATCH", path + query, item, "application/apply-patch+yaml")

    def ready(self) -> bool:
        """Whether the API server answers GET /readyz with ok. False if it does not answer."""
        try:
            return self._request("GET", "/readyz", None, "application/json") == b"ok"
        except ApiError:
            return False

    def exists(self, path: str) -> bool:
        """Whether the object at the URL path `path` can be read. False if the API server does not answer."""
        try:
            self.get(path)
        except ApiError:
            return False
        return True

    def node_ready(self, name: str) -> bool:
        """Whether the Node of that name has the condition Ready=True. False if it cannot be read."""
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
