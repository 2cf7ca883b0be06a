"""Requests to the API server. Objects are plain dicts, and every request has a timeout."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import aiohttp
import orjson
from kubernetes.aio.client import Configuration

from userstorage_operator.api.errors import AlreadyExists, ClusterError, Conflict, NotFound
from userstorage_operator.api.names import FIELD_MANAGER
from userstorage_operator.api.resources import SERVICE_ACCOUNTS, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.page import Known
from userstorage_operator.kube.page import decode as decode_page
from userstorage_operator.kube.transport import REQUEST_TIMEOUT, PageTooLarge, Transport, unreachable
from userstorage_operator.kube.write_gate import Fence, NoopFence, WriteGate

WATCH_SILENCE = 70.0
"""Seconds without a received byte after which a watch counts as dead: the API server sends a bookmark about every 60 s."""
_EXPIRED = 410
_PAGE = 100
"""Maximum number of objects in a page of a list."""
_PAGES_AT_ONCE = 2
"""Number of pages that are received at the same time: at the start, and in a sweep, all lists are requested together."""
_Decoded = TypeVar("_Decoded")
_MERGE_PATCH = "application/merge-patch+json"
_JSON_PATCH = "application/json-patch+json"


class Observer(Protocol):
    """Receives every request to the API server, for metrics and traces."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Record a request and its duration. The duration of a watch ends with the first byte of the response. `code` is the
        HTTP status, or 0 if there was no response.
        """


class NoopObserver:
    """An Observer that records nothing: for commands that run once and have no metrics."""

    def requested(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Ignore the request."""


class KubeClient:
    """A client of the API server with one connection pool. Every request raises a ClusterError if the status code is 400 or
    more, or if there is no response. Requests that write raise NotLeader if the fence is closed.
    """

    def __init__(self, configuration: Configuration, observer: Observer, fence: Fence | None = None) -> None:
        self._gate = WriteGate(fence or NoopFence())
        self._transport = Transport(configuration, self._gate.fence)
        self._observer = observer
        self._pages_at_once = asyncio.Semaphore(_PAGES_AT_ONCE)

    @property
    def ca_file(self) -> str | None:
        """Path of the file with the CA certificates for the API server; None for those of the system."""
        return self._transport.ca_file

    def now(self) -> datetime:
        """Return the time of the API server, as its last response shows it: times in objects are by that clock.

        If the clock of this machine differs by less than a few seconds, it is right, as responses have whole seconds only.
        """
        return self._transport.now()

    async def finish_writing(self) -> bool:
        """Refuse further writes, and wait until those in flight have ended. Return whether the outcome of every write is known."""
        return await self._gate.close()

    async def close(self) -> None:
        """Close all connections to the API server."""
        await self._transport.close()

    async def get(
        self, resource: Resource, namespace: str | None, name: str, *, timeout: float = REQUEST_TIMEOUT
    ) -> Unstructured:
        """Return the object as the API server has it now; no cache of this process is read."""
        return await self._json("get", resource, "GET", resource.path(namespace, name), timeout=timeout)

    async def current(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """Return the object as etcd has it now, by a right that the operator's watches need anyway: cluster-scoped objects are
        listed by name. Raises NotFound if the object does not exist.
        """
        if resource.namespaced:
            return await self.get(resource, namespace, name)
        found, _ = await self.list_all(resource, None, fields=f"metadata.name={name}")
        if not found:
            raise NotFound(404, f"{resource.plural} {name!r} does not exist")
        return found[0]

    async def list_all(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> tuple[list[Unstructured], str]:
        """Return all objects that match the label selector `selector` and the field selector `fields`, and the resourceVersion
        from which to watch. The API server sends the list page by page.
        """
        items: list[Unstructured] = []
        version = ""
        async for page, version in self.list_pages(resource, namespace, selector, fields=fields):  # noqa: B007  # the last one
            items.extend(page)
        return items, version

    async def pages(
        self, resource: Resource, namespace: str | None, selector: str = "", *, fields: str = ""
    ) -> AsyncIterator[list[Unstructured]]:
        """Yield the objects that match both selectors as in `list_all`, page by page: no more than a page is in memory."""
        async for page, _ in self.list_pages(resource, namespace, selector, fields=fields):
            yield page

    async def list_pages(
        self,
        resource: Resource,
        namespace: str | None,
        selector: str = "",
        *,
        fields: str = "",
        size: int = _PAGE,
        known: Known | None = None,
    ) -> AsyncIterator[tuple[list[Unstructured], str]]:
        """Yield pages as `pages` does, of at most `size` objects, each with the resourceVersion of the list.

        `known(namespace, name)` returns the resourceVersion in which the caller has an object: of an object in this version only
        namespace, name and resourceVersion are returned.
        """
        selectors = {"labelSelector": selector, "fieldSelector": fields}
        query = {name: value for name, value in selectors.items() if value}
        kind, limit = {"apiVersion": resource.api_version, "kind": resource.kind}, size
        decode = partial(decode_page, known=known or _nothing)
        while True:
            query["limit"] = str(limit)
            try:
                async with self._pages_at_once:
                    page = await self._request("list", resource, "GET", resource.path(namespace), query, decode=decode)
            except PageTooLarge:  # requested again with fewer objects
                limit = max(1, limit // 4)
                continue
            items = [kind | item for item in page.objects]
            version, following = page.resource_version, page.following
            del page
            yield items, version
            if not following:
                return
            items = []  # the next page comes in its place
            query["continue"], limit = following, min(size, limit + _PAGE // 20)

    async def latest_version(self, resource: Resource, namespace: str | None) -> int:
        """Return the resourceVersion of a list that is requested now: at least that of the last write that anyone knows of."""
        page = await self._json("list", resource, "GET", resource.path(namespace), {"limit": "1"})
        return int(page["metadata"]["resourceVersion"])

    async def create(
        self, resource: Resource, namespace: str, body: Unstructured, *, timeout: float = REQUEST_TIMEOUT
    ) -> Unstructured:
        """Create the object `body`, and return it as the API server stored it."""
        query = {"fieldManager": FIELD_MANAGER}
        return await self._json("create", resource, "POST", resource.path(namespace), query, body, timeout=timeout)

    async def dry_run(self, resource: Resource, namespace: str, body: Unstructured) -> None:
        """Have the server validate and admit the object as in a creation, without storing it. Raises Refused if it does not.

        An object of that name may exist.
        """
        query = {"fieldManager": FIELD_MANAGER, "dryRun": "All"}
        with contextlib.suppress(AlreadyExists):
            await self._json("create", resource, "POST", resource.path(namespace), query, body)

    async def update(
        self, resource: Resource, namespace: str, body: Unstructured, *, timeout: float = REQUEST_TIMEOUT
    ) -> Unstructured:
        """Replace the object with `body`, and return it as the API server stored it. The resourceVersion in `body` is a
        precondition.
        """
        path = resource.path(namespace, body["metadata"]["name"])
        query = {"fieldManager": FIELD_MANAGER}
        return await self._json("update", resource, "PUT", path, query, body, timeout=timeout)

    async def merge_patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Unstructured,
        subresource: str | None = None,
    ) -> Unstructured:
        """Apply a JSON merge patch, and return the patched object. A `metadata.uid` in the patch is a precondition."""
        path = resource.path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return await self._json("patch", resource, "PATCH", path, query, patch, _MERGE_PATCH)

    async def json_patch(self, resource: Resource, namespace: str, name: str, patch: list[Unstructured]) -> Unstructured:
        """Apply a JSON patch, and return the patched object. Raises Conflict if a `test` operation in the patch fails."""
        query = {"fieldManager": FIELD_MANAGER}
        path = resource.path(namespace, name)
        try:
            return await self._json("patch", resource, "PATCH", path, query, patch, _JSON_PATCH)
        except ClusterError as error:
            if error.status == 422:  # so the server answers a failed `test`
                raise Conflict(error.status, error.message) from error
            raise

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        uid: str,
        grace_period: int,
        propagation: str,
        resource_version: str | None = None,
    ) -> Unstructured:
        """Request the deletion of the object with this uid; `grace_period` is in seconds. Return the object, which is then
        being deleted. Return a Status object instead if the object is gone at once.
        """
        body: Unstructured = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": grace_period,
            "propagationPolicy": propagation,
            "preconditions": {"uid": uid} | ({"resourceVersion": resource_version} if resource_version is not None else {}),
        }
        return await self._json("delete", resource, "DELETE", resource.path(namespace, name), {}, body)

    async def request_token(self, namespace: str, account: str, seconds: int) -> str:
        """Return a new token of the service account `account`, which expires after `seconds`. The audience of the token is the
        API server; a kubelet that gets the token asks the API server to check it.
        """
        path = SERVICE_ACCOUNTS.path(namespace, account, "token")
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        token: str = (await self._json("create", SERVICE_ACCOUNTS, "POST", path, {}, body))["status"]["token"]
        return token

    async def discover(self, group: str, version: str) -> set[str]:
        """Return the plural names of the resources that the API server serves in this API group and version. Raises NotFound if
        it serves none.
        """
        answer = await self._transport.request(_json, "GET", f"/apis/{group}/{version}", {}, None, "application/json")
        return {entry["name"] for entry in answer["resources"]}

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[Unstructured]:
        """Yield the watch events after `resource_version`, including bookmarks, until the API server ends the stream.

        Raises Unavailable after WATCH_SILENCE seconds without a received byte.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": resource_version}
        if selector:
            query["labelSelector"] = selector
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT, sock_read=WATCH_SILENCE)
        code, started = 0, time.monotonic()
        try:
            response = await self._transport.stream(resource.path(namespace), query, timeout)
            code = response.status
        except ClusterError as error:
            code = error.status
            raise
        finally:
            self._observer.requested("watch", resource.plural, code, time.monotonic() - started)
        try:
            async for line in _lines(response.content):
                yield orjson.loads(line)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(error) from error
        finally:
            response.close()

    async def _json(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,
    ) -> Unstructured:
        return await self._request(verb, resource, method, path, query, body, content_type, timeout=timeout, decode=_json)

    async def _request(  # noqa: PLR0913  # those of _json, and one
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any = None,
        content_type: str = "application/json",
        *,
        timeout: float = REQUEST_TIMEOUT,
        decode: Callable[[bytes], _Decoded],
    ) -> _Decoded:
        query = query or {}
        code, started = 0, time.monotonic()
        try:
            if method == "GET":
                answer = await self._transport.request(decode, method, path, query, body, content_type, timeout)
            else:
                with self._gate.admit(timeout) as limit:
                    # The server gets the limit too, so that it does not carry out a write that has waited there for longer.
                    query = {**query, "timeout": f"{limit:.3f}s"}
                    answer = await self._transport.request(decode, method, path, query, body, content_type, limit)
        except ClusterError as error:
            code = error.status
            raise
        else:
            code = 200
            return answer
        finally:
            self._observer.requested(verb, resource.plural, code, time.monotonic() - started)


def _json(payload: bytes) -> Unstructured:
    obj: Unstructured = orjson.loads(payload)
    return obj


def _nothing(_namespace: str, _name: str) -> None:
    """Return no resourceVersion: every object is decoded."""


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of the response stream, however long they are: the line limit of aiohttp's reader is smaller than a large
    object.
    """
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
