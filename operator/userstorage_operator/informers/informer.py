"""List-watch of one resource into a cache.

kopf is not used for children: its bookkeeping costs 1-2 ms per event, and its caches keep objects that were deleted while a
watch was interrupted (docs/decisions/0001-kopf-for-custom-resources-informers-for-children.md).
"""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError, NotFound
from userstorage_operator.api.resources import Kind, Resource
from userstorage_operator.api.unstructured import Unstructured, version_of
from userstorage_operator.informers.object_cache import Listing, ObjectCache

log = structlog.get_logger(__name__)

_MAX_BACKOFF = 15.0
_EXPIRED, _BAD_VERSION, _NOT_SERVED = 410, 400, 404
"""HTTP statuses after which a watch can resume only from a new list."""
_ABSENT_RETRY = 60.0
"""Maximum seconds between two lists of a resource that is not installed."""
_PAGE_SIZES = (100, 300, 1000)
"""Maximum numbers of objects in a page of a list: of the first try, and of those after a list has expired."""
_WITNESSES = 100
"""Maximum number of objects that are requested one by one to learn whether etcd was restored."""
_MIN_PAUSE = 0.2
"""Seconds between two streams: a proxy that closes every stream at once must not cause a busy loop."""


class Source(Protocol):
    """The part of the API client that a list-watch uses. Its methods raise ClusterError if a request fails."""

    def list_pages(
        self,
        resource: Resource,
        namespace: str | None,
        selector: str = "",
        *,
        size: int = 100,
        known: Callable[[str, str], int | None] | None = None,
    ) -> AsyncIterator[tuple[list[Unstructured], str]]:
        """Yield the objects that the label `selector` selects, at most `size` at a time, each page with the resourceVersion of the
        list, which is the one to watch from. Objects whose resourceVersion `known(namespace, name)` returns need no more than
        namespace, name and resourceVersion.
        """

    async def latest_version(self, resource: Resource, namespace: str | None) -> int:
        """Return the resourceVersion of a list that is requested now."""

    async def current(self, resource: Resource, namespace: str | None, name: str) -> Unstructured:
        """Return the object as etcd has it now. Raises NotFound if it does not exist."""

    def watch(
        self, resource: Resource, namespace: str | None, selector: str, resource_version: str
    ) -> AsyncIterator[Unstructured]:
        """Yield the events of one watch that starts at `resource_version`, bookmarks included."""


def longest_silences(silences: Iterable[tuple[Resource, float]]) -> dict[str, float]:
    """Return a mapping from plural name to the longest of the `silences`, in seconds, of the watches of that resource."""
    found: dict[str, float] = {}
    for resource, seconds in silences:
        found[resource.plural] = max(seconds, found.get(resource.plural, 0.0))
    return found


async def relist(source: Source, resource: Resource, namespace: str | None, selector: str, cache: ObjectCache) -> str | None:
    """Put a full list into the cache. Return the resourceVersion to watch from; None if the cluster lacks an optional resource.

    Raises ClusterError if a request fails. What it has listed until then stays in the cache. A list that takes longer than etcd
    keeps its version (five minutes by default) is started again with larger pages.
    """
    for size in _PAGE_SIZES:
        try:
            return await _relist(source, resource, namespace, selector, cache, size)
        except ClusterError as error:
            if error.status != _EXPIRED or size == _PAGE_SIZES[-1]:
                raise
    return None


async def _relist(
    source: Source, resource: Resource, namespace: str | None, selector: str, cache: ObjectCache, size: int
) -> str | None:
    # Before the request: what arrives later may rightly be newer than the list.
    newest = cache.newest_version(namespace)
    listing = Listing(namespace)
    while True:
        try:
            version = await _add_pages(source, resource, selector, cache, listing, size, newest)
        except NotFound:
            if not resource.optional:
                raise
            cache.not_served(namespace)
            return None
        if version is not None:
            cache.finish_list(listing, version)
            return version
        log.warning("etcd_restored", resource=resource.within(namespace))
        listing = Listing(namespace, restored=True, unbounded=listing.unbounded)


async def _add_pages(
    source: Source, resource: Resource, selector: str, cache: ObjectCache, listing: Listing, size: int, newest: int
) -> str | None:
    """Put each page of a list into the cache, and return the resourceVersion of the list. Return None if the list shows that etcd
    was restored: the objects of earlier pages have to be compared again with that in mind.

    With CHILD_SELECTOR, the children without their label are listed besides. They come first: one that gets its label in between
    is in both lists.
    """
    version, known_before = "0", listing.restored
    for selected in (names.UNLABELLED_SELECTOR, selector) if selector == names.CHILD_SELECTOR else (selector,):
        first = True
        # After a restore, the version of the cache may be that of another object.
        known = None if listing.restored else cache.version
        async for page, version in source.list_pages(resource, listing.namespace, selected, size=size, known=known):
            if first and not known_before and int(version) < newest:
                listing.restored = listing.unbounded = await _is_restored(
                    source, resource, listing.namespace, int(version), cache
                )
            first = False
            cache.add_page(listing, page, version)
            page.clear()  # the list would stay in memory until the next page is here
            if listing.restored and not known_before:
                return None
    return version


async def _is_restored(source: Source, resource: Resource, namespace: str | None, listed: int, cache: ObjectCache) -> bool:
    """Whether the API server has an object only in an older version than the cache, which has newer ones than the list `listed`.

    The list alone is no proof: an API server that lags behind etcd must not send an old list, but some did. A request for
    one object is answered by etcd. An object that does not exist is removed from the cache.
    """
    newer = sorted(cache.newer_than(listed, namespace), key=lambda entry: entry[1], reverse=True)
    for (object_namespace, name), version in newer[:_WITNESSES]:
        try:
            current = await source.current(resource, object_namespace or None, name)
        except NotFound:
            if (known := cache.get(object_namespace, name)) is not None:
                cache.discard(object_namespace, name, known["metadata"]["uid"])
            continue
        return version_of(current) < version
    return False


class Informer:
    """Keeps a cache up to date until cancelled: list, watch, and list again if the watch cannot resume."""

    def __init__(self, source: Source, resource: Resource, namespace: str | None, selector: str, cache: ObjectCache) -> None:
        self._source = source
        self.resource = resource
        self._namespace = namespace
        self._selector = selector
        self._cache = cache
        self._failures = 0
        self._version: str | None = None
        self._listed: str | None = None
        self._last_response = time.monotonic()
        self._last_attempt = math.inf

    def stuck_for(self) -> float:
        """Return the seconds since the last request or response; 0 before `run`. Each request has a time limit of its own."""
        return max(0.0, time.monotonic() - max(self._last_response, self._last_attempt))

    def silent_for(self) -> float:
        """Return the seconds since the last list, event or bookmark from the API server."""
        return time.monotonic() - self._last_response

    @property
    def failing(self) -> bool:
        """Whether the last attempt to list or watch failed."""
        return self._failures > 0

    async def run(self) -> None:
        """List and watch until cancelled. An error is logged and followed by a growing pause; it never ends the loop."""
        while True:
            wait, self._last_attempt = _MIN_PAUSE, time.monotonic()
            try:
                if self._version is not None and not await self._is_ahead(self._version):
                    await self._watch(self._version)
                elif not await self._list():
                    wait = random.uniform(0.5, 1) * _ABSENT_RETRY  # noqa: S311  # jitter
            except ClusterError as error:
                if error.status in (_EXPIRED, _BAD_VERSION, _NOT_SERVED):
                    self._version = None
                wait = max(self._failed(), error.retry_after or 0.0)
                level = logging.WARNING if self._failures == 1 else logging.DEBUG
                fields = {"error_kind": error.reason, "error": error.message, "code": error.status}
                log.log(level, "watch_failed", resource=self.resource.plural, **fields)
            except Exception:  # a line that cannot be decoded must not end the watch for good
                self._version, wait = None, self._failed()
                log.exception("watch_crashed", resource=self.resource.plural)
            await asyncio.sleep(wait)

    async def _list(self) -> bool:
        """Put a full list into the cache. Return False if the resource is optional and not served."""
        self._version = self._listed = await relist(self._source, self.resource, self._namespace, self._selector, self._cache)
        self._last_response = time.monotonic()
        if self._version is None:
            self._failures = 0
        return self._version is not None

    async def _is_ahead(self, version: str) -> bool:
        """Whether `version`, from which a watch would resume, is in the future: etcd was restored to an earlier moment.

        Such a watch would be silent until the resourceVersions have caught up, and then have missed what happened in between.
        """
        if version == self._listed:  # right after the list
            return False
        return int(version) > await self._source.latest_version(self.resource, self._namespace)

    async def _watch(self, version: str) -> None:
        """Put the events of one stream into the cache, until it ends. The next stream resumes from the last version."""
        async for event in self._source.watch(self.resource, self._namespace, self._selector, version):
            kind, obj = event["type"], event["object"]
            if kind == "ERROR":
                raise ClusterError(int(obj.get("code", 0)), f"watch ended: {obj.get('message')}")
            if self._failures:
                self._failures = 0
                log.info("watch_resumed", resource=self.resource.plural)
            self._last_response = time.monotonic()
            if kind == "DELETED" and self.resource.graceful and not _has_ended(self.resource, obj):
                await self._left_selection(obj)
            elif kind != "BOOKMARK":
                self._cache.event(kind, obj)
            self._version = obj["metadata"]["resourceVersion"]

    async def _left_selection(self, obj: Unstructured) -> None:
        """Keep the object in the cache if it still exists and has only lost the label that the watch selects."""
        meta, kind = obj["metadata"], "DELETED"
        with contextlib.suppress(NotFound):
            live = await self._source.current(self.resource, meta["namespace"], meta["name"])
            if live["metadata"]["uid"] == meta["uid"]:
                kind, obj = "MODIFIED", live
        self._cache.event(kind, obj)

    def _failed(self) -> float:
        """Count a failed list or watch. Return the seconds to wait, which grow with each failure in a row, with jitter."""
        self._failures += 1
        limit: float = min(_MAX_BACKOFF, 0.2 * 2 ** min(self._failures, 7))
        return random.uniform(0.5, 1) * limit  # noqa: S311  # jitter


def _has_ended(resource: Resource, obj: Unstructured) -> bool:
    """Whether the last state of an object of a graceful resource is that of an end: the kubelet reports how the containers of a pod
    ended before the pod goes, or at least sets its grace period to 0, after which only the garbage collector's finalizer keeps it.
    Any other pod that was deleted by force looks like one that has lost its label. A NetworkPolicy is graceful until its finalizer
    is removed, which a reconcile does when the user is deleted.
    """
    meta = obj["metadata"]
    if resource is Kind.NETWORK_POLICY.resource and names.FINALIZER not in (meta.get("finalizers") or ()):
        return True
    if "deletionTimestamp" not in meta:
        return False
    collected = meta.get("deletionGracePeriodSeconds") == 0 and meta.get("finalizers") in (None, [names.FOREGROUND_FINALIZER])
    return collected or obj.get("status", {}).get("phase") != "Running"
