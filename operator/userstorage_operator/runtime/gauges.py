"""Gauges that are read at the moment of a scrape. Fixed label values, but for the classes, which are the administrator's."""

from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Gauge

BUILT_IN = "_builtin"
REST = "_rest"
_NAMED_CLASSES_MAX = 10


class Gauges:
    """Set by whoever knows, all of them before each answer."""

    def __init__(
        self,
        registry: CollectorRegistry,
        watched: Collection[str],
        phases: Collection[str],
        conditions: Collection[tuple[str, str]],
        failure_reasons: Collection[str],
    ) -> None:
        def gauge(name: str, documentation: str, *labels: str) -> Gauge:
            return Gauge(f"userstorage_{name}", documentation, labels, registry=registry)

        self.queue_depth = gauge("queue_depth", "Keys that wait for a worker.")
        self.queue_oldest = gauge("queue_oldest_wait_seconds", "Wait of the key at the head of the queue.")
        self.watch_silence = gauge("watch_silence_seconds", "Time since a watch last heard of the API server.", "resource")
        self.loop_lag = gauge("loop_lag_seconds", "Largest delay of the event loop in the last minute.")
        self.api_up = gauge("api_up", "Whether the API server answered the last look at it.")
        self.leader = gauge("leader", "1 in the process that watches and writes, else 0.")
        self.leader_term = gauge("leader_term", "Term of the lease as last seen: how often the leader has changed.")
        self.lease_renew_age = gauge(
            "lease_renew_age_seconds", "Time since the lease was last seen renewed; above 10, nobody may write."
        )
        self.classes_without_digest = gauge("classes_without_digest", "Classes whose image is not named by its digest.")
        self.objects = gauge("objects", "UserStorages by phase.", "phase")
        self.conditions = gauge("conditions", "UserStorages by type and status of their conditions.", "type", "status")
        self.condition_reasons = gauge(
            "condition_reasons", "UserStorages with a condition of that reason; one may have several.", "reason"
        )
        self.not_ready_longest = gauge(
            "not_ready_longest_seconds", "How long the UserStorage has not been Ready that should be, and has waited longest."
        )
        self.long_not_ready = gauge(
            "objects_long_not_ready", "UserStorages that should be Ready and have not been for 10 minutes."
        )
        self.deletions = gauge("deletions_in_flight", "UserStorages whose deletion has begun.")
        self.deletion_oldest = gauge("deletion_oldest_seconds", "Time since the oldest of these deletions began.")
        self.deletions_overdue = gauge("deletions_overdue", "Deletions that have passed spec.lifecycle.deletionTimeout.")
        self.volumes_measured = gauge("volumes_measured", "Volumes of which a kubelet has lately told how full they are.")
        self.volumes_nearly_full = gauge("volumes_nearly_full", "Those that are more than 90 % full.")
        self.volume_fullest = gauge("volume_usage_ratio_max", "How full the fullest of them is.")
        self._classes = gauge(
            "class_objects", f"UserStorages by class: the {_NAMED_CLASSES_MAX} with most; {REST} is all others.", "class"
        )
        for resource in watched:
            self.watch_silence.labels(resource)
        for phase in phases:
            self.objects.labels(phase)
        for condition in conditions:
            self.conditions.labels(*condition)
        for reason in failure_reasons:
            self.condition_reasons.labels(reason)
        self.set_classes({}, 0)

    def set_classes(self, counts: Mapping[str, int], in_missing_classes: int) -> None:
        """`users` by existing class, under "" those that have none; `elsewhere` are in classes that do not exist."""
        named = sorted((name for name in counts if name), key=lambda name: (-counts[name], name))
        self._classes.clear()
        self._classes.labels(BUILT_IN).set(counts.get("", 0))
        self._classes.labels(REST).set(in_missing_classes + sum(counts[name] for name in named[_NAMED_CLASSES_MAX:]))
        for name in named[:_NAMED_CLASSES_MAX]:
            self._classes.labels(name).set(counts[name])
