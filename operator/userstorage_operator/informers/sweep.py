"""The sweep: now and then list everything and look at every object, for whatever the events have missed."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from userstorage_operator.api import names
from userstorage_operator.api.errors import ClusterError
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.informer import Source, take_list

log = structlog.get_logger(__name__)

_RETRY = 5.0
_NO_ANSWER = 0
_SELECTORS = {kind.resource: names.CHILD_SELECTOR for kind in Kind}

_List = tuple[Resource, str | None]
"""What is listed, and in which namespace."""


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
        views: Caches,
        namespaces: Iterable[str | None],
        enqueue: Callable[[Key], None],
        observer: Observer,
    ) -> None:
        self._source = source
        self._views = views
        scopes = list(namespaces)
        watched = (USER_STORAGES, *(kind.resource for kind in Kind))
        self._lists: list[_List] = [(resource, None) for resource in (USER_STORAGE_CLASSES, STORAGE_CLASSES)]
        self._lists += [(resource, scope) for resource in watched for scope in scopes]
        self._enqueue = enqueue
        self._observer = observer

    async def run(self, period: float) -> None:
        """Every `period` seconds, give or take a fifth, until cancelled. What could not be listed is tried again in seconds, and
        it alone: a namespace that is refused for good must not have all others listed as often.
        """
        while True:
            began = time.monotonic()
            owed = await self.once()
            due = time.monotonic() + random.uniform(0.8, 1.2) * period  # noqa: S311  # jitter
            while owed and time.monotonic() < due:
                await asyncio.sleep(min(_RETRY, period))
                owed = await self._take(owed)
            if not owed:
                self._observer.swept(time.monotonic() - began)
                log.debug("swept", objects=len(self._views.keys()))
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def once(self) -> Sequence[_List]:
        """Take all lists and have every object looked at: the lists that could not be had."""
        known = set(self._views.keys())
        owed = await self._take(self._lists)
        for key in known.union(self._views.keys()):
            self._enqueue(key)
        return owed

    async def _take(self, lists: Sequence[_List]) -> Sequence[_List]:
        """Bring the caches up to date: those that could not be had. One that is refused keeps no other from being taken; an API
        server that does not answer is not asked for the others as well.
        """
        owed: list[_List] = []
        first: ClusterError | None = None
        for number, (resource, namespace) in enumerate(lists):
            try:
                await take_list(self._source, resource, namespace, _SELECTORS.get(resource, ""), self._views.cache(resource))
            except ClusterError as error:
                first = first or error
                owed.append((resource, namespace))
                if error.status == _NO_ANSWER:
                    owed += lists[number + 1 :]
                    break
        if first is not None:
            self._observer.sweep_failed()
            which = ", ".join(resource.within(namespace) for resource, namespace in owed)
            log.warning("sweep_failed", resource=which, error_kind=first.reason, error=first.message, code=first.status)
        return owed
