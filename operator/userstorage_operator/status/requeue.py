"""When to reconcile a UserStorage again if the queue does not retry and no watch event requeues it before."""

from datetime import datetime, timedelta

from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.observed import pod_status
from userstorage_operator.status import conditions
from userstorage_operator.status.outcome import Outcome

FIRST_REPORT = timedelta(seconds=5)
"""How long a new pod has to become ready before the first status is written. The schema's default status is Pending already, so a
start that succeeds in time costs one write instead of two or three, also in a burst of hundreds."""
_STARTING = frozenset({"PodPending", "PodNotReady", "SchedulingGated", "ReadinessGatesNotReady", "Unschedulable"})
"""Reasons of any pod that starts: an unbound claim makes it unschedulable for a moment."""


def requeue_after(outcome: Outcome) -> float | None:
    """Return the seconds until the status may change without a watch event; None if there is no such time."""
    moments = [
        *outcome.plan.requeue_at,
        conditions.start_deadline(outcome),
        conditions.overdue_at(outcome),
        first_report_at(outcome),
    ]
    ahead = [(moment - outcome.now).total_seconds() for moment in moments if moment is not None and moment > outcome.now]
    return min(ahead, default=None)


def first_report_at(outcome: Outcome) -> datetime | None:
    """Return until when the first write of the status waits for a new pod to become ready; None if it does not wait."""
    pod = outcome.snapshot.children.pod
    if "observedGeneration" in outcome.snapshot.status or outcome.failure is not None or pod is None:
        return None
    if pod_status.is_ready(pod) or pod_status.not_ready_finding(pod).reason not in _STARTING:
        return None
    created = parse_time(pod["metadata"]["creationTimestamp"])
    due = created + min(FIRST_REPORT, outcome.snapshot.storage.lifecycle.start_timeout)
    # creationTimestamp is from the API server's clock: if the clocks differ, the wait must not become longer. A pod that this
    # reconcile created is up to a second younger than `now`.
    return due if outcome.now < due <= outcome.now + FIRST_REPORT + timedelta(seconds=1) else None
