"""A client for File Browser's HTTP API, which its web page uses."""

import base64
import json
from typing import Any

from support.web import Response, Web

HEADER = "X-Forwarded-User"


class FileBrowser:
    """The session of one user; the login sends the header that an authenticating proxy would add."""

    def __init__(self, web: Web, user: str = "alice") -> None:
        answer = web.request("POST", "api/login", headers={HEADER: user})
        assert answer.code == 200, answer
        self._token = answer.body.decode()
        self._web = web

    @property
    def permissions(self) -> dict[str, Any]:
        """The user's permissions, as encoded in the server's token."""
        found: dict[str, Any] = self._account()["perm"]
        return found

    @property
    def user(self) -> str:
        """The user's name, as encoded in the server's token."""
        return str(self._account()["username"])

    def _account(self) -> dict[str, Any]:
        payload = self._token.split(".")[1]
        claims: dict[str, dict[str, Any]] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims["user"]

    def request(self, method: str, path: str, body: bytes | None = None) -> Response:
        """Send a request with this user's token."""
        return self._web.request(method, path, body, {"X-Auth": self._token})

    def upload(self, name: str, content: bytes) -> Response:
        return self.request("POST", f"api/resources/{name}", content)

    def download(self, name: str) -> Response:
        return self.request("GET", f"api/raw/{name}")

    def list_names(self) -> list[str]:
        """Return the names in the root directory."""
        answer = self.request("GET", "api/resources/")
        assert answer.code == 200, answer
        return [item["name"] for item in answer.json()["items"]]
