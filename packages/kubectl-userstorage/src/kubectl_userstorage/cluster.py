"""Requests to the API server, in its terms: objects, lists in pages, tables, patches."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from urllib.parse import quote

from kubectl_userstorage import errors
from kubectl_userstorage.api import FIELD_MANAGER, Raw, Resource

PAGE = 500
"""Objects of one page of a list, as kubectl asks for."""
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Target:
    """The cluster of a command, as kubectl's options name it. None: the default of the kubeconfig."""

    kubeconfig: str | None = None
    context: str | None = None


class Answer(NamedTuple):
    """The body of a response, and the failure that it stands for, if it is one."""

    body: bytes
    error: errors.CommandError | None


class Stream(Protocol):
    """A connection of bytes in both directions."""

    @property
    def is_ended(self) -> bool:
        """Whether the connection cannot be used any more."""

    async def read(self) -> bytes:
        """Return what has arrived; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send data. Raises OSError if the connection is over."""


class Transport(Protocol):
    """How requests reach the API server. Every method raises Unreachable if they do not."""

    @property
    def namespace(self) -> str:
        """The namespace of the context; empty if it names none."""

    async def version(self) -> str:
        """Return the version of the API server."""

    async def request(
        self, method: str, path: str, params: Mapping[str, str] | None, content: str | None, headers: Mapping[str, str] | None
    ) -> Answer:
        """Send a request and return the answer, also if it is an error."""

    def lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[str]:
        """Yield the lines of a response as they arrive."""

    def forward(self, pod: Raw, port: int) -> contextlib.AbstractAsyncContextManager[Stream]:
        """Open one connection to a port of a pod, and yield it. Raises Forbidden without the right to."""

    async def execute(self, pod: Raw, container: str, command: list[str]) -> tuple[int, str, str]:
        """Run a command in a container. Return its exit code, standard output and standard error."""


class Cluster:
    """The API server of one context. Every method raises a CommandError if the request fails."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @property
    def default_namespace(self) -> str:
        """The namespace of the context."""
        return self.transport.namespace or "default"

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Raw:
        """Return an object. Raises NotFound if it does not exist."""
        return await self.json("GET", resource, namespace, name)

    async def find(self, resource: Resource, namespace: str | None, name: str) -> Raw | None:
        """Return an object, or None if it does not exist."""
        try:
            return await self.get(resource, namespace, name)
        except errors.NotFound:
            return None

    async def pages(
        self,
        resource: Resource,
        namespace: str | None,
        params: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> AsyncIterator[Raw]:
        """Yield the pages of a list; `namespace` None: of all namespaces."""
        query = {"limit": str(PAGE), **(params or {})}
        while True:
            page = await self.json("GET", resource, namespace, params=query, headers={"Accept": accept})
            yield page
            if not (following := page["metadata"].get("continue")):
                return
            query["continue"] = following

    async def list_all(self, resource: Resource, namespace: str | None, params: Mapping[str, str] | None = None) -> list[Raw]:
        """Return all objects of a list, with the apiVersion and kind that a list leaves out."""
        typed = {"apiVersion": resource.api_version, "kind": resource.kind}
        return [typed | item async for page in self.pages(resource, namespace, params) for item in page["items"]]

    async def list_metadata(
        self, resource: Resource, namespace: str | None, params: Mapping[str, str] | None = None
    ) -> list[Raw]:
        """Return the metadata of all objects of a list; of no object if the API server does not serve the resource."""
        try:  # an empty page has null
            return [item async for page in self.pages(resource, namespace, params, _METADATA) for item in page["items"] or ()]
        except errors.NotFound:
            return []

    async def create(self, resource: Resource, namespace: str | None, body: Raw, *, dry_run: bool = False) -> Raw:
        """Create an object and return it."""
        return await self.json("POST", resource, namespace, params=_write(dry_run=dry_run), body=body)

    async def patch(self, resource: Resource, namespace: str | None, name: str, patch: Raw, *, dry_run: bool = False) -> Raw:
        """Merge-patch an object and return it."""
        headers = {"Content-Type": "application/merge-patch+json"}
        return await self.json("PATCH", resource, namespace, name, params=_write(dry_run=dry_run), body=patch, headers=headers)

    async def delete(self, resource: Resource, namespace: str | None, raw: Raw) -> None:
        """Delete the object as it was read: with its uid and resourceVersion as preconditions."""
        meta = raw["metadata"]
        preconditions = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        await self.json("DELETE", resource, namespace, meta["name"], body={"preconditions": preconditions})

    async def delete_all(self, resource: Resource, namespace: str) -> None:
        """Delete all objects of a resource in a namespace."""
        await self.json("DELETE", resource, namespace)

    async def may(self, verb: str, resource: Resource, namespace: str | None, subresource: str = "") -> bool:
        """Whether the caller has a right; `namespace` None: in all namespaces."""
        reviews = Resource("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False)
        attributes = {"verb": verb, "group": resource.group, "resource": resource.plural, "subresource": subresource}
        body = {
            "apiVersion": reviews.api_version,
            "kind": reviews.kind,
            "spec": {"resourceAttributes": {**attributes, "namespace": namespace or ""}},
        }
        return bool((await self.json("POST", reviews, None, body=body))["status"].get("allowed"))

    async def version(self) -> str:
        """Return the version of the API server, such as `v1.36.1`."""
        return await self.transport.version()

    async def json(
        self,
        method: str,
        resource: Resource,
        namespace: str | None,
        name: str = "",
        *,
        params: Mapping[str, str] | None = None,
        body: Raw | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Raw:
        """Return the response to a request about a resource, parsed."""
        scope = f"/namespaces/{quote(namespace, safe='')}" if resource.namespaced and namespace else ""
        path = f"{resource.base}{scope}/{resource.plural}" + (f"/{quote(name, safe='')}" if name else "")
        content = None if body is None else json.dumps(body)
        answer = await self.transport.request(method, path, params, content, headers)
        if answer.error is not None:
            raise answer.error
        parsed: Raw = json.loads(answer.body)
        return parsed

    async def text(self, path: str, params: Mapping[str, str] | None = None, *, checked: bool = True) -> str:
        """Return the text at a path. Without `checked`, also that of an error."""
        answer = await self.transport.request("GET", path, params, None, None)
        if checked and answer.error is not None:
            raise answer.error
        return answer.body.decode(errors="replace")


def _write(*, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
