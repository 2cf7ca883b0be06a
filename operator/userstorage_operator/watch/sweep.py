"""The sweep: now and then list everything and look at every object, for whatever the events have missed."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from userstorage_operator.domain import names
from userstorage_operator.domain.errors import ClusterError
from userstorage_operator.domain.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.domain.storage import Key
from userstorage_operator.watch.informer import Source, take_list
from userstorage_operator.watch.views import WatchViews

log = structlog.get_logger(__name__)

_RETRY = 5.0


class Observer(Protocol):
    """Who is told of every sweep (metrics)."""

    def swept(self, seconds: float) -> None:
        """One was completed."""

    def sweep_failed(self) -> None:
        """One could not be completed."""


class Sweep:
    """Lists what the watches should have told: kopf reports no deletion of what vanished while its watch was down, and
    an event that the API server never sent is missed by any watch.
    """

    def __init__(
        self,
        source: Source,
        views: WatchViews,
        namespaces: Iterable[str | None],
        enqueue: Callable[[Key], None],
        observer: Observer,
    ) -> None:
        self._source = source
        self._views = views
        self._namespaces = list(namespaces)
        self._enqueue = enqueue
        self._observer = observer

    async def run(self, period: float) -> None:
        """Every `period` seconds, give or take a fifth, until cancelled; a failed sweep is tried again in seconds."""
        while True:
            began = time.monotonic()
            try:
                await self.once()
                self._observer.swept(time.monotonic() - began)
                pause = random.uniform(0.8, 1.2) * period  # noqa: S311  # jitter
            except ClusterError as error:
                log.warning("sweep_failed", error_kind=error.reason, error=error.message, code=error.status)
                self._observer.sweep_failed()
                pause = min(_RETRY, period)
            await asyncio.sleep(pause)

    async def once(self) -> None:
        """One sweep. Raises a ClusterError."""
        known = set(self._views.keys())
        for resource in (USER_STORAGE_CLASSES, STORAGE_CLASSES):
            classes, version = await self._source.list_all(resource, None)
            self._views.cache(resource).replace(classes, version)
        for namespace in self._namespaces:
            storages, version = await self._source.list_all(USER_STORAGES, namespace)
            self._views.cache(USER_STORAGES).replace(storages, version, namespace)
        for kind in Kind:
            for namespace in self._namespaces:
                cache = self._views.cache(kind.resource)
                await take_list(self._source, kind.resource, namespace, names.CHILD_SELECTOR, cache)
        for key in known.union(self._views.keys()):
            self._enqueue(key)
        log.debug("swept", objects=len(known))
