"""Lists for kopf's watches: the informers' lists replace kopf's own.

kopf lists before it watches, and hands each listed object on as an event. It reports no object that the list lacks, exits on a
page that has expired or is refused as malformed and on an error in a watch, and resumes a watch from a resourceVersion that may
be in the future. So kopf's lists are made to return no object, only the resourceVersion to watch from, and `relist` puts the full
list into the cache.

kopf processes an event for 0.3 ms of CPU, twice as much as a request costs, so it gets only news: the events of our own writes,
whose responses are in the cache already, reach it as bookmarks.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any

import aiohttp
import orjson
import structlog
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.informer import Source, relist
from userstorage_operator.informers.object_cache import ObjectCache

log = structlog.get_logger(__name__)

_NO_OBJECT = "metadata.name=-"
"""Field selector that no object matches: a name cannot consist of a hyphen."""
_EXIT_STATUSES = frozenset({400, 404, 410})
"""HTTP statuses on which kopf would end the process."""
_GONE = 410
"""The only error in a watch that kopf answers with a new list."""
_ERROR = b'"ERROR"'
"""What the start of a line has if the line is an error: the type of the event, which comes first."""
_START = 20
"""Bytes of that start."""
_WITH_OBJECT = frozenset({"ADDED", "MODIFIED", "DELETED"})
"""The types of events about an object."""
_RESUME_PAUSE = 0.5
"""Minimum seconds until a watch that ended with an error is resumed: kopf would resume it at once."""
_RETRY = 5.0
"""Seconds until a list that failed is requested again."""


class KopfLists:
    """Lists one resource into its cache whenever kopf has listed it or resumes its watch from an unusable version."""

    def __init__(self, source: Source, resource: Resource, namespaces: Iterable[str | None], cache: ObjectCache) -> None:
        self._source = source
        self._resource = resource
        self._cache = cache
        self._scopes = {resource.path(namespace): namespace for namespace in namespaces}
        self._listed: set[str] = set()
        """URL paths that kopf has listed and not watched since."""
        self._expired: set[str] = set()
        """URL paths whose watch must not resume from the version that kopf knows."""
        self._due: set[str | None] = set()
        self._failing: set[str | None] = set()
        self._wake = asyncio.Event()

    async def middleware(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request of kopf: an aiohttp client middleware in the session that kopf gets."""
        path = request.url.path
        if path not in self._scopes:
            return await handler(request)
        if "watch" in request.url.query:
            await self._prepare_watch(request)
            response = await handler(request)
            response.content = _Events(  # type: ignore[assignment]
                response.content, self._cache.has, partial(self._watch_failed, path)
            )
        else:
            request.url = request.url.with_query(fieldSelector=_NO_OBJECT)
            response = await handler(request)
            if response.status < 400:
                self._listed.add(path)
                self._request_list(path)
        if response.status in _EXIT_STATUSES:
            self._expired.add(path)
            response.close()
            raise aiohttp.ClientConnectionError(f"HTTP {response.status} for {path}")  # kopf retries after this error
        return response

    async def run(self) -> None:
        """Carry out the lists that are due, until cancelled. A list that fails is tried again after some seconds."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            failed = {scope for scope in list(self._due) if not await self._list(scope)}
            if failed:
                await asyncio.sleep(random.uniform(0.5, 1) * _RETRY)  # noqa: S311  # jitter
                self._due |= failed
                self._wake.set()

    async def _list(self, namespace: str | None) -> bool:
        self._due.discard(namespace)  # first: kopf may list again meanwhile
        try:
            await relist(self._source, self._resource, namespace, "", self._cache)
        except ClusterError as error:
            level = logging.DEBUG if namespace in self._failing else logging.WARNING
            fields = {"error_kind": error.reason, "error": error.message, "code": error.status}
            log.log(level, "watch_failed", resource=self._resource.within(namespace), **fields)
            self._failing.add(namespace)
            return False
        self._failing.discard(namespace)
        return True

    async def _prepare_watch(self, request: ClientRequest) -> None:
        """Let a watch resume from now, and request a list, if the version from which kopf resumes is unusable."""
        path, version = request.url.path, request.url.query.get("resourceVersion")
        if path in self._listed:  # the list has just returned this version
            self._listed.discard(path)
            self._expired.discard(path)
            return
        if path in self._expired:
            await asyncio.sleep(random.uniform(1, 2) * _RESUME_PAUSE)  # noqa: S311  # jitter
        try:
            latest = await self._source.latest_version(self._resource, self._scopes[path])
        except ClusterError as error:
            raise aiohttp.ClientConnectionError(error.message) from error
        if path in self._expired or version is None or latest < int(version):
            request.url = request.url.update_query(resourceVersion=str(latest))
            self._expired.discard(path)
            self._request_list(path)

    def _watch_failed(self, path: str, error: Unstructured) -> None:
        """Have the watch resume from now. `error` is the Status that the API server has sent as its last event."""
        code = int(error.get("code") or 0)
        log.warning("watch_failed", resource=self._resource.plural, error=str(error.get("message")), code=code)
        self._expired.add(path)

    def _request_list(self, path: str) -> None:
        self._due.add(self._scopes[path])
        self._wake.set()


class _Events:
    """The body of a watch response for kopf. It ends where an error is on which kopf would end the process. Objects that
    `is_known` are replaced by bookmarks.
    """

    def __init__(
        self, body: aiohttp.StreamReader, is_known: Callable[[Unstructured], bool], on_error: Callable[[Unstructured], None]
    ) -> None:
        self._body = body
        self._is_known = is_known
        self._on_error = on_error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body line by line: the method that kopf reads it with."""
        rest = b""
        async for chunk in self._body.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if _ERROR in line[:_START] and (error := orjson.loads(line)["object"]).get("code") != _GONE:
                    self._on_error(error)
                    return
                yield self._without_known(line) + b"\n"
        if rest:
            yield rest

    def _without_known(self, line: bytes) -> bytes:
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:  # kopf's to report
            return line
        obj = event.get("object")
        if event["type"] not in _WITH_OBJECT or not self._is_known(obj):
            return line
        reached = {"resourceVersion": obj["metadata"]["resourceVersion"]}
        identity = {field: obj[field] for field in ("apiVersion", "kind")}
        return orjson.dumps({"type": "BOOKMARK", "object": identity | {"metadata": reached}})
