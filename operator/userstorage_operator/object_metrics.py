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
        views: Caches,
        book: RolloutTracker,
        volumes: VolumeStatsCache | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._metrics = metrics
        self._views = views
        self._book = book
        self._volumes = volumes
        self._clock = clock
        self._census = object_counts.ObjectCounts()
        views.cache(USER_STORAGES).add_event_handler(self._on_event)

    def _on_event(self, key: ObjectKey, raw: Unstructured | None) -> None:
        if raw is None:
            self._census.remove(Key(*key))
        elif (took := self._census.update(raw, self._clock())) is not None:
            self._metrics.became_ready(took.total_seconds())

    def collect(self) -> None:
        """Set the gauges that are about objects. Costs the same however many there are."""
        gauges, tally = self._metrics.gauges, self._census.counts(self._clock())
        for phase, count in tally.phases.items():
            gauges.objects.labels(phase).set(count)
        for condition, count in tally.conditions.items():
            gauges.conditions.labels(*condition).set(count)
        for reason, count in tally.failure_reasons.items():
            gauges.troubles.labels(reason).set(count)
        gauges.not_ready_longest.set(tally.not_ready_longest)
        gauges.long_not_ready.set(tally.long_not_ready)
        gauges.deletions.set(tally.deletions)
        gauges.deletion_oldest.set(tally.deletion_oldest)
        gauges.deletions_overdue.set(tally.deletions_overdue)
        classes = list(self._views.classes())
        users, existing = self._book.users(), {"", *(raw["metadata"]["name"] for raw in classes)}
        here = {name: users.get(name, 0) for name in existing}
        gauges.set_classes(here, sum(users.values()) - sum(here.values()))
        fullness = self._volumes.fullness if self._volumes is not None else UsageSummary()
        gauges.volumes_measured.set(fullness.known)
        gauges.volumes_nearly_full.set(fullness.nearly_full)
        gauges.volume_fullest.set(fullness.fullest)
        gauges.classes_without_digest.set(without_digest(classes))
