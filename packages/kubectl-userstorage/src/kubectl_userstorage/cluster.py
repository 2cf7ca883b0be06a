"""Requests to the API server. The only module that knows kr8s."""

import contextlib
import json
import logging
import os
import ssl
import tempfile
import warnings
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import kr8s.asyncio
from kr8s.asyncio.objects import Pod

from kubectl_userstorage import errors
from kubectl_userstorage.api import FIELD_MANAGER, Raw, Resource

PAGE = 500
"""Objects of one page of a list, as kubectl asks for."""
_TIMEOUT = httpx.Timeout(30)
_STATUS_ERRORS = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
}


@dataclass(frozen=True)
class Target:
    """The cluster of a command, as kubectl's options name it. None: the default of the kubeconfig."""

    kubeconfig: str | None = None
    context: str | None = None


class Cluster:
    """The API server of one context. Every method raises a CommandError if the request fails."""

    def __init__(self, api: kr8s.asyncio.Api) -> None:
        self._api = api

    @property
    def default_namespace(self) -> str:
        """The namespace of the context."""
        return str(self._api.namespace or "default")

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
        with _connection_errors():
            return str((await self._api.version())["gitVersion"])

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
        response = await self.response(method, path, params=params, body=body, headers=headers)
        parsed: Raw = json.loads(response.content)
        return parsed

    async def text(self, path: str, params: Mapping[str, str] | None = None, *, checked: bool = True) -> str:
        """Return the text of a path. Without `checked`, also that of an error."""
        return (await self.response("GET", path, params=params, checked=checked)).text

    async def response(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Raw | None = None,
        headers: Mapping[str, str] | None = None,
        checked: bool = True,
    ) -> httpx.Response:
        """Return the response of the API server to a request. With `checked`, raises a CommandError for an error."""
        content = None if body is None else json.dumps(body)
        # raise_for_status=False: kr8s would log in three more times after each 403, which costs three runs of an exec plugin.
        options = {"params": params, "content": content, "headers": headers, "raise_for_status": False}
        base, _, rest = path.rpartition("/")
        with _connection_errors():
            async with self._api.call_api(method, version="", base=base, url=rest, **options) as response:
                if checked and response.is_error:
                    raise _error(response)
                return response

    async def lines(self, path: str, params: Mapping[str, str]) -> AsyncIterator[str]:
        """Yield the lines of a response as they arrive."""
        base, _, rest = path.rpartition("/")
        options = {"params": params, "raise_for_status": False, "timeout": httpx.Timeout(30, read=None)}
        with _connection_errors():
            async with self._api.call_api("GET", version="", base=base, url=rest, stream=True, **options) as response:
                if response.is_error:
                    await response.aread()
                    raise _error(response)
                async for line in response.aiter_lines():
                    yield line

    @contextlib.asynccontextmanager
    async def forward(self, pod: Raw, port: int) -> AsyncIterator[int]:
        """Forward a free port of 127.0.0.1 to a port of a pod, and yield it."""
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # a connection to a pod that is gone: its client sees it end
        with _connection_errors():
            async with Pod(pod, api=self._api).portforward(port, local_port="auto") as local:
                yield local

    async def execute(self, pod: Raw, container: str, command: list[str]) -> tuple[int, str, str]:
        """Run a command in a container. Return its exit code, standard output and standard error."""
        with _connection_errors():
            done = await Pod(pod, api=self._api).exec(command, container=container, check=False)
        return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


@contextlib.asynccontextmanager
async def connect(target: Target) -> AsyncIterator[Cluster]:
    """Log in with the kubeconfig and yield the cluster. Raises Unreachable, which names the option to check, if that fails."""
    warnings.filterwarnings("ignore", category=UserWarning, module="kr8s")  # a version of Kubernetes newer than kr8s
    kubeconfig = target.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    # kr8s writes the client key of the kubeconfig into temporary files and leaves them there.
    former = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="kubectl-userstorage-") as directory:
        tempfile.tempdir = directory
        try:
            yield Cluster(await _login(kubeconfig, target.context))
        finally:
            tempfile.tempdir = former


async def _login(kubeconfig: str, context: str | None) -> kr8s.asyncio.Api:
    with _connection_errors():
        try:
            api = await kr8s.asyncio.api(kubeconfig=kubeconfig, context=context)
        except kr8s.ServerError as error:  # of the request for the version
            raise _error(error.response) if error.response is not None else errors.Unreachable(str(error)) from error
        except (ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            option = f"--context {context}" if context and "context" in str(error) else f"--kubeconfig {kubeconfig}"
            raise errors.Unreachable(f"{option}: {error}") from error
    api.timeout = _TIMEOUT
    return api


@contextlib.contextmanager
def _connection_errors() -> Any:
    try:
        yield
    except (httpx.HTTPError, kr8s.APITimeoutError, kr8s.ConnectionClosedError, ssl.SSLError, OSError) as error:
        raise errors.Unreachable(f"the API server does not answer: {error or type(error).__name__}") from error


def _error(response: httpx.Response) -> errors.CommandError:
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:300] or response.reason_phrase
    return _STATUS_ERRORS.get(response.status_code, errors.CommandError)(message)


def _write(*, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
