"""Ask the kubelets of the nodes that run our pods how full their volumes are. Off by default (docs/decisions/0010)."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from userstorage_operator.api.errors import OperatorError
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.arbitration.lister import Lister
from userstorage_operator.observed.snapshot import controller, is_ours
from userstorage_operator.observed.volume_usage import VolumeUse, parse_summary, volume_status
from userstorage_operator.reconcile.volume_stats_cache import VolumeStatsCache

log = structlog.get_logger(__name__)

_PERIOD = 30.0
"""Seconds. A kubelet measures once a minute and answers from what it remembers."""
_AT_ONCE = 8
"""Nodes."""


class Kubelets(Protocol):
    """The nodes themselves."""

    async def summary(self, address: str) -> Unstructured:
        """What the kubelet at that address tells of its pods. Raises an OperatorError where it does not."""


class Observer(Protocol):
    """Who is told of every look (metrics)."""

    def volume_stats_failed(self) -> None:
        """A kubelet could not be asked, or could not be understood."""


class VolumeStatsCollector:
    """What a kubelet says is believed about its own pods only. A node that says nothing leaves its volumes as they were known,
    and nothing waits for it. `enqueue(key)` is called where a status has to be written.
    """

    def __init__(
        self,
        kubelets: Kubelets,
        views: Lister,
        pods: Callable[[], Iterable[Unstructured]],
        book: VolumeStatsCache,
        enqueue: Callable[[Key], None],
        observer: Observer,
    ) -> None:
        """`pods()` are all of ours."""
        self._kubelets = kubelets
        self._views = views
        self._pods = pods
        self._book = book
        self._enqueue = enqueue
        self._observer = observer
        self._failing = False

    async def run(self) -> None:
        """Every half minute, until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(random.uniform(0.9, 1.1) * _PERIOD)  # noqa: S311  # jitter

    async def once(self) -> None:
        """Ask every node once."""
        nodes: dict[str, dict[str, Unstructured]] = {}
        for pod in self._pods():
            status = pod.get("status") or {}
            if "hostIP" in status and status.get("phase") == "Running":
                nodes.setdefault(status["hostIP"], {})[pod["metadata"]["uid"]] = pod
        limit = asyncio.Semaphore(_AT_ONCE)
        errors = await asyncio.gather(*(self._ask(address, pods, limit) for address, pods in nodes.items()))
        self._book.summary()
        self._log_errors([error for error in errors if error is not None])

    async def _ask(self, address: str, pods: Mapping[str, Unstructured], limit: asyncio.Semaphore) -> OperatorError | None:
        try:
            async with limit:
                summary = await self._kubelets.summary(address)
            found = list(parse_summary(summary))
        except OperatorError as error:
            self._observer.volume_stats_failed()
            return error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._observer.volume_stats_failed()
            return OperatorError(f"the kubelet at {address} does not answer as one: {type(error).__name__} {error}")
        for volume in found:
            raw = self._storage_of(pods.get(volume.pod_uid), volume.namespace)
            if raw is not None:
                self._book.record(volume.namespace, volume.claim, volume.use)
                self._requeue_on_change(raw, volume.claim, volume.use)
        return None

    def _storage_of(self, pod: Unstructured | None, namespace: str) -> Unstructured | None:
        """Whose pod that is; None for one that merely carries our label, or is not of that namespace."""
        owner = controller(pod) if pod is not None else None
        if pod is None or owner is None or pod["metadata"]["namespace"] != namespace:
            return None
        raw = self._views.storage(Key(namespace, owner["name"]))
        return raw if raw is not None and is_ours(pod, raw["metadata"]["uid"]) else None

    def _requeue_on_change(self, raw: Unstructured, claim: str, use: VolumeUse) -> None:
        """Have the status written where it says something else."""
        previous = (raw.get("status") or {}).get("storage") or {}
        if any(previous.get(name) != value for name, value in volume_status(previous, claim, use).items()):
            self._enqueue(Key.of(raw))

    def _log_errors(self, errors: list[OperatorError]) -> None:
        """Log that nodes are not to be asked, once, and that all are again."""
        if errors:
            level = logging.DEBUG if self._failing else logging.WARNING
            first = errors[0]
            log.log(level, "volume_stats_failed", nodes=len(errors), error_kind=first.reason, error=first.message)
        elif self._failing:
            log.info("volume_stats_recovered")
        self._failing = bool(errors)
