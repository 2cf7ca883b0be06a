"""What the metrics are told of UserStorages: the words there can be, and the counts at each scrape."""

from collections.abc import Callable
from datetime import datetime

from userstorage_operator.api.reasons import FAILURES
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import Key
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.object_cache import ObjectKey
from userstorage_operator.reconcile.class_reconciler import without_digest
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
"""Every label value but the names of classes."""


class ObjectMetrics:
    """Counts what the caches hold, as it changes."""

    def __init__(
        self,
        metrics: Metrics,
        caches: Caches,
        rollouts: RolloutTracker,
        volume_stats: VolumeStatsCache | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._metrics = metrics
        self._caches = caches
        self._rollouts = rollouts
        self._volume_stats = volume_stats
        self._clock = clock
        self._counts = object_counts.ObjectCounts()
        caches.cache(USER_STORAGES).add_event_handler(self._on_event)

    def _on_event(self, key: ObjectKey, raw: Unstructured | None) -> None:
        if raw is None:
            self._counts.remove(Key(*key))
        elif (time_to_ready := self._counts.update(raw, self._clock())) is not None:
            self._metrics.became_ready(time_to_ready.total_seconds())

    def collect(self) -> None:
        """Set the gauges that are about objects. Costs the same however many there are."""
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
        classes = list(self._caches.classes())
        users, existing = self._rollouts.users(), {"", *(raw["metadata"]["name"] for raw in classes)}
        here = {name: users.get(name, 0) for name in existing}
        gauges.set_classes(here, sum(users.values()) - sum(here.values()))
        usage = self._volume_stats.fullness if self._volume_stats is not None else UsageSummary()
        gauges.volumes_measured.set(usage.known)
        gauges.volumes_nearly_full.set(usage.nearly_full)
        gauges.volume_fullest.set(usage.fullest)
        gauges.classes_without_digest.set(without_digest(classes))
