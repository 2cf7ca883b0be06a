"""A platform backend: asks the read API as one service account, and holds every answer against the OpenAPI document."""

import hashlib
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from jsonschema import Draft202012Validator

from support.kubectl import Kubectl
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.readapi.openapi import document

_DOCUMENT = document("test")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def account(api: Kubectl, namespace: str, name: str = "backend", *, everywhere: bool = False, here: bool = False) -> str:
    """A token of a new service account that may read UserStorages in its namespace, or in all; the rights go with it."""
    api.run("create", "serviceaccount", name, "-n", namespace)
    subject = f"--serviceaccount={namespace}:{name}"
    if here:
        api.run("create", "rolebinding", name, "-n", namespace, "--clusterrole=userstorage-view", subject)
    if everywhere:
        api.run("create", "clusterrolebinding", f"{namespace}-{name}", "--clusterrole=userstorage-view", subject)
    return api.run("create", "token", name, "-n", namespace).stdout.strip()


@dataclass(frozen=True)
class ApiResponse:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def names(self) -> list[str]:
        """Namespace and name of every item."""
        return [f"{item['namespace']}/{item['name']}" for item in self.body["items"]]


class Backend:
    """Requests to the read API at a port of this machine."""

    def __init__(self, session: aiohttp.ClientSession, port: int, token: str | None) -> None:
        self._session = session
        self._base = f"http://127.0.0.1:{port}"
        self._port = port
        self.token = token

    def as_(self, token: str | None) -> "Backend":
        """The same backend with another token."""
        return Backend(self._session, self._port, token)

    async def get(self, path: str, method: str = "GET", **headers: str) -> ApiResponse:
        """The answer to `path` below /v1, which fits its schema."""
        login = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        known = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, f"{self._base}/v1{path}", headers=login | known) as response:
            payload = await response.read()
            answer = ApiResponse(response.status, response.headers, json.loads(payload) if payload else None)
        if answer.status == 200 and method == "GET" and path != "/openapi.json":
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["ETag"] == f'"{hashlib.sha256(payload).hexdigest()}"'
            assert answer.headers["Age"] == str(answer.body["metadata"]["ageSeconds"])
            assert answer.headers["Cache-Control"] == "private, no-cache"
            fits("List" if "items" in answer.body else "Single", answer.body)
        elif answer.status >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
            if method != "HEAD":
                fits("Problem", answer.body)
                assert answer.body["status"] == answer.status
        return answer

    async def readiness(self) -> Any:
        """What /ready says."""
        async with self._session.get(f"{self._base}/ready") as response:
            return await response.json()

    async def metrics(self) -> str:
        """The text of /metrics."""
        async with self._session.get(f"{self._base}/metrics") as response:
            return await response.text()


def fits(schema: str, body: Unstructured) -> None:
    """Fail unless `body` is valid by that schema of the OpenAPI document."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": _DOCUMENT["components"]}
    Draft202012Validator(root, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(body)
