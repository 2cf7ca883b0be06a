"""Metrics of UserStorages, their classes and volumes: the label values, and the gauges that are set before a scrape.

Every event of the caches updates the counts. So a scrape need not go through all objects, nor render the browser of a class.
"""

from collections.abc import Callable
from datetime import datetime

from userstorage_operator.api.reasons import END_OF_LIFE, FAILURES, IMAGE_PINNED
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.cached_object import ObjectKey
from userstorage_operator.informers.caches import Caches
from userstorage_operator.reconcile.class_reconciler import image_flaws
from userstorage_operator.reconcile.rollout_tracker import RolloutTracker
from userstorage_operator.reconcile.volume_stats_cache import UsageSummary, VolumeStatsCache
from userstorage_operator.runtime.metrics import LabelValues, Metrics
from userstorage_operator.status import object_counts

LABEL_VALUES = LabelValues(
    failures=tuple(FAILURES),
    resources=(USER_STORAGES.plural,),
    watched=tuple(
        sorted(
            resource.plural
            for resource in (*(kind.resource for kind in Kind), STORAGE_CLASSES, USER_STORAGES, USER_STORAGE_CLASSES)
        )
    ),
    phases=object_counts.PHASES,
    conditions=object_counts.CONDITIONS,
    failure_reasons=object_counts.FAILURE_REASONS,
)
"""All label values of the metrics, except the names of classes."""


class ObjectMetrics:
    """Counts the objects in the caches on every event of a cache, and sets the gauges from these counts."""

    def __init__(
        self,
        metrics: Metrics,
        caches: Caches,
        rollouts: RolloutTracker,
        volume_stats: VolumeStatsCache | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._metrics = metrics
        self._rollouts = rollouts
        self._volume_stats = volume_stats
        self._clock = clock
        self._counts = object_counts.ObjectCounts()
        self._flaws: dict[str, frozenset[str]] = {}
        """Name of each existing class -> the conditions that report a flaw of its image (`class_reconciler.image_flaws`)."""
        caches.cache(USER_STORAGES).add_event_handler(self._on_event)
        caches.cache(USER_STORAGE_CLASSES).add_event_handler(self._on_class_event)

    def _on_event(self, key: ObjectKey, raw: Unstructured | None) -> None:
        if raw is None:
            self._counts.remove(Key(*key))
        elif (time_to_ready := self._counts.update(raw, self._clock())) is not None:
            self._metrics.became_ready(time_to_ready.total_seconds())

    def _on_class_event(self, key: ObjectKey, raw: Unstructured | None) -> None:
        _, name = key
        if raw is None:
            self._flaws.pop(name, None)
        else:
            self._flaws[name] = image_flaws(raw)

    def collect(self) -> None:
        """Set the gauges of UserStorages, classes and volumes. The cost does not depend on the number of UserStorages, and no
        class is rendered.
        """
        self._collect_storages()
        self._collect_classes()
        self._collect_volumes()

    def _collect_storages(self) -> None:
        gauges, counts = self._metrics.gauges, self._counts.counts(self._clock())
        for phase, count in counts.phases.items():
            gauges.objects.labels(phase).set(count)
        for condition, count in counts.conditions.items():
            gauges.conditions.labels(*condition).set(count)
        for reason, count in counts.failure_reasons.items():
            gauges.condition_reasons.labels(reason).set(count)
        gauges.not_ready_longest.set(counts.not_ready_longest)
        gauges.long_not_ready.set(counts.long_not_ready)
        gauges.deletions.set(counts.deletions)
        gauges.deletion_oldest.set(counts.deletion_oldest)
        gauges.deletions_overdue.set(counts.deletions_overdue)
        gauges.claims_terminating_in_use.set(counts.claims_terminating_in_use)

    def _collect_classes(self) -> None:
        gauges = self._metrics.gauges
        gauges.set_classes(*self._rollouts.users(("", *self._flaws)))
        gauges.rollout_standstill.set(self._rollouts.longest_standstill())
        gauges.classes_without_digest.set(sum(IMAGE_PINNED in flaws for flaws in self._flaws.values()))
        gauges.classes_end_of_life.set(sum(END_OF_LIFE in flaws for flaws in self._flaws.values()))

    def _collect_volumes(self) -> None:
        gauges = self._metrics.gauges
        usage = self._volume_stats.fullness if self._volume_stats is not None else UsageSummary()
        gauges.volumes_measured.set(usage.known)
        gauges.volumes_nearly_full.set(usage.nearly_full)
        gauges.volume_fullest.set(usage.fullest)
