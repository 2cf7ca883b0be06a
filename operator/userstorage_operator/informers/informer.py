"""List-watch of one resource into a cache: ours, because kopf's bookkeeping costs 1-2 ms per event of a child and its
caches keep what vanished during a break (docs/decisions).
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator
from typing import Protocol

import structlog

from userstorage_operator.api.errors import ClusterError, NotFound
from userstorage_operator.api.resources import Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.informers.object_cache import ObjectCache

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 15.0
_EXPIRED, _BAD_VERSION, _NOT_SERVED = 410, 400, 404
"""Answers after which only a new list helps."""
_ABSENCE = 60.0
"""Seconds at most between two looks for a resource that is not installed."""
_BREATH = 0.2
"""Seconds between two streams: a proxy that ends every stream at once must not make us spin."""


class Source(Protocol):
    """The part of the API client that a list-watch needs."""

    async def list_all(self, resource: Resource, namespace: str | None, selector: str = "") -> tuple[list[Unstructured], str]:
        """All objects and the resourceVersion to watch from."""

    def watch(
        self, resource: Resource, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[Unstructured]:
        """Watch events, bookmarks included."""


async def take_list(source: Source, resource: Resource, namespace: str | None, selector: str, cache: ObjectCache) -> str | None:
    """Bring the cache up to date at once: the version to watch from, or None where an optional resource is not served."""
    try:
        objects, version = await source.list_all(resource, namespace, selector)
    except NotFound:
        if not resource.optional:
            raise
        cache.not_served(namespace)
        return None
    cache.replace(objects, version, namespace)
    return version


class Informer:
    """Keeps a cache as the API server has it, for ever: list, watch, list again when the watch cannot go on."""

    def __init__(self, source: Source, resource: Resource, namespace: str | None, selector: str, cache: ObjectCache) -> None:
        self._source = source
        self.resource = resource
        self._namespace = namespace
        self._selector = selector
        self._cache = cache
        self._failures = 0
        self._version: str | None = None
        self._last_heard = time.monotonic()
        self._last_turn = math.inf

    def stuck_for(self) -> float:
        """Seconds since it last heard or tried anything: both have limits of their own. 0 before it runs."""
        return max(0.0, time.monotonic() - max(self._last_heard, self._last_turn))

    def silent_for(self) -> float:
        """Seconds since the API server last answered or sent an event or a bookmark."""
        return time.monotonic() - self._last_heard

    @property
    def failing(self) -> bool:
        """Whether the last try to list or watch failed."""
        return self._failures > 0

    async def run(self) -> None:
        """Until cancelled. An error is logged and followed by a growing pause; it never ends the loop."""
        while True:
            wait, self._last_turn = _BREATH, time.monotonic()
            try:
                if self._version is not None:
                    await self._watch(self._version)
                elif not await self._list():
                    wait = random.uniform(0.5, 1) * _ABSENCE  # noqa: S311  # jitter
            except ClusterError as error:
                if error.status in (_EXPIRED, _BAD_VERSION, _NOT_SERVED):
                    self._version = None
                wait = max(self._failed(), error.retry_after or 0.0)
                level = logging.WARNING if self._failures == 1 else logging.DEBUG
                fields = {"error_kind": error.reason, "error": error.message, "code": error.status}
                log.log(level, "watch_failed", resource=self.resource.plural, **fields)
            except Exception:  # an undecodable line must not end the operator's sight for good
                self._version, wait = None, self._failed()
                log.exception("watch_crashed", resource=self.resource.plural)
            await asyncio.sleep(wait)

    async def _list(self) -> bool:
        """Bring the cache up to date; False where the API server says that there is no such resource, and rightly so."""
        self._version = await take_list(self._source, self.resource, self._namespace, self._selector, self._cache)
        self._last_heard = time.monotonic()
        if self._version is None:
            self._failures = 0
        return self._version is not None

    async def _watch(self, version: str) -> None:
        """Follow one stream to its end; the next one goes on from the last version seen."""
        async for event in self._source.watch(self.resource, self._namespace, self._selector, version):
            kind, obj = event["type"], event["object"]
            if kind == "ERROR":
                raise ClusterError(int(obj.get("code", 0)), f"watch ended: {obj.get('message')}")
            if self._failures:
                self._failures = 0
                log.info("watch_resumed", resource=self.resource.plural)
            self._last_heard = time.monotonic()
            if kind != "BOOKMARK":
                self._cache.event(kind, obj)
            self._version = obj["metadata"]["resourceVersion"]

    def _failed(self) -> float:
        """Count a failure: seconds to wait, growing, with jitter."""
        self._failures += 1
        longest: float = min(_LONGEST_PAUSE, 0.2 * 2 ** min(self._failures, 7))
        return random.uniform(0.5, 1) * longest  # noqa: S311  # not a secret
