"""The sweep: list all objects periodically, in case a watch missed an event.

A list that shows a change requeues the UserStorage that it concerns, as an event does. The others are requeued in turn, a part of
them in each sweep (client-go's resync), in case something that is no object has changed: with a reconcile of all, a sweep of 10,000
took 22 s of CPU (docs/performance.md).
"""

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
from userstorage_operator.informers.crowds import in_stretches
from userstorage_operator.informers.informer import Source, relist

log = structlog.get_logger(__name__)

_RETRY = 5.0
"""Seconds until the lists that failed are requested again."""
_TURNS = 12
"""Sweeps until each UserStorage has been requeued: an hour with the default period."""
_NO_RESPONSE = 0
"""Status of a ClusterError if the API server did not respond."""
_SELECTORS = {kind.resource: names.CHILD_SELECTOR for kind in Kind}

_List = tuple[Resource, str | None]
"""Resource, and namespace (None: the whole cluster)."""


class Observer(Protocol):
    """Receives the result of each sweep, for the metrics."""

    def swept(self, seconds: float) -> None:
        """Record a sweep that is complete after `seconds`: every list has succeeded."""

    def sweep_failed(self) -> None:
        """Record one round of list requests in which at least one failed."""


class Sweep:
    """Finds changes that the watches missed.

    kopf reports no deletion that happened while its watch was interrupted. No watch sees an event that the API server never
    sent.
    """

    def __init__(
        self,
        source: Source,
        caches: Caches,
        namespaces: Iterable[str | None],
        enqueue: Callable[[Key], None],
        observer: Observer,
    ) -> None:
        self._source = source
        self._caches = caches
        scopes = list(namespaces)
        self._lists: list[_List] = [
            (USER_STORAGE_CLASSES, None),
            *((USER_STORAGES, scope) for scope in scopes),
            (STORAGE_CLASSES, None),
            *((kind.resource, scope) for kind in Kind for scope in scopes),
        ]
        self._enqueue = enqueue
        self._observer = observer
        self._turn = 0

    async def run(self, period: float) -> None:
        """Requeue all, then sweep every `period` seconds (± 20 %) until cancelled.

        Only the lists that failed are retried, every few seconds: a namespace that stays forbidden must not cause frequent
        lists of the others.
        """
        await in_stretches(self._caches.keys(), self._enqueue)
        due = _next(period)
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            started = time.monotonic()
            failed = await self.once()
            due = _next(period)
            while failed and time.monotonic() < due:
                await asyncio.sleep(min(_RETRY, period))
                failed = await self._relist(failed)
            if not failed:
                self._observer.swept(time.monotonic() - started)
                log.debug("swept", objects=len(self._caches.keys()))

    async def once(self) -> Sequence[_List]:
        """Request all lists once, and requeue the UserStorages whose turn it is. Return the lists that failed, as (resource, namespace)."""
        known = set(self._caches.keys())
        failed = await self._relist(self._lists)
        self._turn = (self._turn + 1) % _TURNS
        due = (key for key in known.union(self._caches.keys()) if hash(key) % _TURNS == self._turn)
        await in_stretches(due, self._enqueue)
        return failed

    async def _relist(self, lists: Sequence[_List]) -> Sequence[_List]:
        """Request `lists` and put their objects into the caches. Return those of `lists` that failed.

        A refused list does not stop the others. If the API server does not respond, the remaining lists count as failed.
        """
        failed: list[_List] = []
        first: ClusterError | None = None
        for number, (resource, namespace) in enumerate(lists):
            try:
                await relist(self._source, resource, namespace, _SELECTORS.get(resource, ""), self._caches.cache(resource))
            except ClusterError as error:
                first = first or error
                failed.append((resource, namespace))
                if error.status == _NO_RESPONSE:
                    failed += lists[number + 1 :]
                    break
        if first is not None:
            self._observer.sweep_failed()
            resources = ", ".join(resource.within(namespace) for resource, namespace in failed)
            log.warning("sweep_failed", resource=resources, error_kind=first.reason, error=first.message, code=first.status)
        return failed


def _next(period: float) -> float:
    """Return when the next sweep is due."""
    return time.monotonic() + random.uniform(0.8, 1.2) * period  # noqa: S311  # jitter
