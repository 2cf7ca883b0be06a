"""Collect volume usage from the kubelets of the nodes that run our pods. Off by default (docs/decisions/0010)."""

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
"""Seconds between two rounds. A kubelet measures once a minute and answers from its cache."""
_AT_ONCE = 8
"""Number of nodes that are queried at the same time."""


class Kubelets(Protocol):
    """The kubelets of all nodes."""

    async def summary(self, address: str) -> Unstructured:
        """Return the stats summary of the kubelet at that address. Raises an OperatorError if it does not answer."""


class Observer(Protocol):
    """Counts failed queries of kubelets, for the metrics."""

    def volume_stats_failed(self) -> None:
        """Count a kubelet that did not respond, or sent an invalid response."""


class VolumeStatsCollector:
    """Queries kubelets, and accepts from each only the volumes of its own pods.

    If a node does not respond, its volumes keep their last known usage, and nothing waits for it. `enqueue(key)` is called if
    the status of a UserStorage has to change.
    """

    def __init__(
        self,
        kubelets: Kubelets,
        lister: Lister,
        pods: Callable[[], Iterable[Unstructured]],
        stats: VolumeStatsCache,
        enqueue: Callable[[Key], None],
        observer: Observer,
    ) -> None:
        """`pods()` returns all pods of the operator."""
        self._kubelets = kubelets
        self._lister = lister
        self._pods = pods
        self._stats = stats
        self._enqueue = enqueue
        self._observer = observer
        self._failing = False

    async def run(self) -> None:
        """Query the kubelets every half minute, until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(random.uniform(0.9, 1.1) * _PERIOD)  # noqa: S311  # jitter

    async def once(self) -> None:
        """Query the kubelet of each node that runs our pods, once."""
        nodes: dict[str, dict[str, Unstructured]] = {}
        for pod in self._pods():
            status = pod.get("status") or {}
            if "hostIP" in status and status.get("phase") == "Running":
                nodes.setdefault(status["hostIP"], {})[pod["metadata"]["uid"]] = pod
        limit = asyncio.Semaphore(_AT_ONCE)
        errors = await asyncio.gather(*(self._ask(address, pods, limit) for address, pods in nodes.items()))
        self._stats.summary()
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
            return OperatorError(f"the kubelet at {address} sent an invalid summary: {type(error).__name__} {error}")
        for volume in found:
            raw = self._storage_of(pods.get(volume.pod_uid), volume.namespace)
            if raw is not None:
                self._stats.record(volume.namespace, volume.claim, volume.use)
                self._requeue_on_change(raw, volume.claim, volume.use)
        return None

    def _storage_of(self, pod: Unstructured | None, namespace: str) -> Unstructured | None:
        """Return the UserStorage of the pod; None for a pod that only carries our label, or is in another namespace."""
        owner = controller(pod) if pod is not None else None
        if pod is None or owner is None or pod["metadata"]["namespace"] != namespace:
            return None
        raw = self._lister.storage(Key(namespace, owner["name"]))
        return raw if raw is not None and is_ours(pod, raw["metadata"]["uid"]) else None

    def _requeue_on_change(self, raw: Unstructured, claim: str, use: VolumeUse) -> None:
        """Requeue the UserStorage if the usage in its status has to change."""
        previous = (raw.get("status") or {}).get("storage") or {}
        if any(previous.get(name) != value for name, value in volume_status(previous, claim, use).items()):
            self._enqueue(Key.of(raw))

    def _log_errors(self, errors: list[OperatorError]) -> None:
        """Log the first failing round of a series as a warning, later ones at debug level; log the recovery."""
        if errors:
            level = logging.DEBUG if self._failing else logging.WARNING
            first = errors[0]
            log.log(level, "volume_stats_failed", nodes=len(errors), error_kind=first.reason, error=first.message)
        elif self._failing:
            log.info("volume_stats_recovered")
        self._failing = bool(errors)
