"""A platform backend: calls the read API as a service account and validates every response against the OpenAPI document."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from jsonschema import Draft202012Validator
from yarl import URL

from support.kubectl import Kubectl
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.readapi.openapi import document

_DOCUMENT = document("test")


def account(api: Kubectl, namespace: str, name: str = "backend", *, everywhere: bool = False, here: bool = False) -> str:
    """Return a token of a new service account that may read UserStorages in its namespace (`here`) or in all (`everywhere`)."""
    account = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "userstorage-view"}
    binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "roleRef": role, "subjects": [account]}
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    ]
    if here:
        objects.append({**binding, "kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace}})
    if everywhere:
        objects.append({**binding, "kind": "ClusterRoleBinding", "metadata": {"name": f"{namespace}-{name}"}})
    api.apply(*objects)
    return api.token(name, namespace)


@dataclass(frozen=True)
class ApiResponse:
    """A response of the read API."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def names(self) -> list[str]:
        """`namespace/name` of every item."""
        return [f"{item['namespace']}/{item['name']}" for item in self.body["items"]]


class Backend:
    """Sends requests to the read API at a local port."""

    def __init__(self, session: aiohttp.ClientSession, port: int, token: str | None) -> None:
        self._session = session
        self._base = f"http://127.0.0.1:{port}"
        self._port = port
        self.token = token

    def as_(self, token: str | None) -> "Backend":
        """Return the same backend with another token."""
        return Backend(self._session, self._port, token)

    async def get(self, path: str, method: str = "GET", **headers: str) -> ApiResponse:
        """Return the response to `path` below /v1, validated against its schema. The path is sent as it is, `%2E` included."""
        login = {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}
        known = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(f"{self._base}/v1{path}", encoded=True)
        async with self._session.request(method, url, headers=login | known) as response:
            payload = await response.read()
            result = ApiResponse(response.status, response.headers, json.loads(payload) if payload else None)
        if result.status == 200 and method == "GET" and path != "/openapi.json":
            assert result.headers["Content-Type"] == "application/json"
            assert result.headers["ETag"] == f'"{hashlib.sha256(payload).hexdigest()}"'
            assert result.headers["Age"] == str(result.body["metadata"]["ageSeconds"])
            assert result.headers["Cache-Control"] == "private, no-cache"
            validate("List" if "items" in result.body else "Single", result.body)
        elif result.status >= 400:
            assert result.headers["Content-Type"] == "application/problem+json"
            if method != "HEAD":
                validate("Problem", result.body)
                assert result.body["status"] == result.status
        return result

    async def readiness(self) -> Any:
        """Return the body of /ready."""
        async with self._session.get(f"{self._base}/ready") as response:
            return await response.json()

    async def metrics(self) -> str:
        """Return the text of /metrics."""
        async with self._session.get(f"{self._base}/metrics") as response:
            return await response.text()


def validate(schema: str, body: Unstructured) -> None:
    """Fail if `body` does not match that schema of the OpenAPI document."""
    root = {"$ref": f"#/components/schemas/{schema}", "components": _DOCUMENT["components"]}
    Draft202012Validator(root, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(body)
