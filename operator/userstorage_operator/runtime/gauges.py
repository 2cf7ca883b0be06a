"""Prometheus gauges that are set right before each scrape. All label values are fixed, except the names of classes, which only
administrators create.
"""

from collections.abc import Collection, Mapping

from prometheus_client import CollectorRegistry, Gauge

BUILT_IN = "_builtin"
REST = "_rest"
_NAMED_CLASSES_MAX = 10


class Gauges:
    """The gauges that are set right before each scrape, by the modules that know their values."""

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

        self.queue_depth = gauge("queue_depth", "Keys waiting for a worker.")
        self.queue_oldest = gauge(
            "queue_oldest_wait_seconds", "Time for which the key that has waited longest has waited, of all priorities."
        )
        self.watch_silence = gauge(
            "watch_silence_seconds", "Time since a watch last received data from the API server.", "resource"
        )
        self.loop_lag = gauge("loop_lag_seconds", "Largest delay of the event loop in the last minute.")
        self.tasks = gauge("tasks", "Tasks of the event loop.")
        self.api_up = gauge("api_up", "1 if the API server answered the last probe, else 0.")
        self.leader = gauge("leader", "1 in the leader, the only process that watches and writes; else 0.")
        self.leader_term = gauge("leader_term", "Term of the lease as last seen: how often the leader has changed.")
        self.lease_renew_age = gauge(
            "lease_renew_age_seconds",
            "Time since this process last saw a renewal of the lease; above 10, no process may write.",
        )
        self.classes_without_digest = gauge("classes_without_digest", "Classes with an image that has no digest.")
        self.classes_end_of_life = gauge("classes_end_of_life", "Classes whose program gets no security fixes any more.")
        self.rollout_standstill = gauge(
            "rollout_standstill_seconds",
            "Longest time for which UserStorages of any class wait for its rollout and none was replaced.",
        )
        self.objects = gauge("objects", "UserStorages by phase.", "phase")
        self.conditions = gauge("conditions", "UserStorages by type and status of their conditions.", "type", "status")
        self.condition_reasons = gauge(
            "condition_reasons",
            "UserStorages that have a condition with the reason; one can count for several reasons.",
            "reason",
        )
        self.not_ready_longest = gauge(
            "not_ready_longest_seconds", "Longest time for which a UserStorage that should be Ready has not been Ready."
        )
        self.long_not_ready = gauge(
            "objects_long_not_ready", "UserStorages that should be Ready, but have not been Ready for 10 minutes."
        )
        self.deletions = gauge("deletions_in_flight", "UserStorages that are being deleted.")
        self.deletion_oldest = gauge("deletion_oldest_seconds", "Time since the oldest unfinished deletion was requested.")
        self.deletions_overdue = gauge("deletions_overdue", "Deletions that take longer than spec.lifecycle.deletionTimeout.")
        self.claims_terminating_in_use = gauge(
            "claims_terminating_in_use", "UserStorages with a pod on a claim that is being deleted."
        )
        self.volumes_measured = gauge("volumes_measured", "Volumes with a recent usage report from a kubelet.")
        self.volumes_nearly_full = gauge("volumes_nearly_full", "Volumes that are more than 90 % full.")
        self.volume_fullest = gauge("volume_usage_ratio_max", "Usage of the fullest volume, as a ratio of its capacity.")
        self._classes = gauge(
            "class_objects",
            f"UserStorages by class: the {_NAMED_CLASSES_MAX} classes with the most UserStorages; {REST} is all others.",
            "class",
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
        """Set the number of UserStorages of each class.

        `counts` has an entry for every existing class, and the entry "" for UserStorages without a class. `in_missing_classes`
        is the number of UserStorages whose class does not exist.
        """
        named = sorted((name for name in counts if name), key=lambda name: (-counts[name], name))
        self._classes.clear()
        self._classes.labels(BUILT_IN).set(counts.get("", 0))
        self._classes.labels(REST).set(in_missing_classes + sum(counts[name] for name in named[_NAMED_CLASSES_MAX:]))
        for name in named[:_NAMED_CLASSES_MAX]:
            self._classes.labels(name).set(counts[name])
