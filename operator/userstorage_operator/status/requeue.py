"""When to reconcile a UserStorage again if the queue does not retry and no watch event requeues it before."""

from datetime import datetime, timedelta

from userstorage_operator.api.conditions import Phase
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status
from userstorage_operator.status import conditions
from userstorage_operator.status.outcome import Outcome

REPORT_DELAY = timedelta(seconds=5)
"""How long a first start, the binding of a claim or a deletion has to end before its progress is written to the status. Until then the schema's default
says Pending, or the deletionTimestamp that the object goes: what ends in time costs one write, or none."""
REPORT_DELAY_IN_BURST = timedelta(minutes=2)
"""The same while many start or go at once: each is slower because of the others, and their progress would be a burst of writes. Of a
thousand at once on a small cluster, a quarter takes more than half a minute."""
_STARTING = frozenset({"PodPending", "PodNotReady", "SchedulingGated", "ReadinessGatesNotReady", "Unschedulable"})
"""Reasons of any pod that starts: an unbound claim makes it unschedulable for a moment."""


def requeue_after(outcome: Outcome, report_at: datetime | None, now: datetime) -> float | None:
    """Return the seconds from `now`, the end of the reconcile, until the status may change without a watch event, or is due
    (`report_at`); None if there is no such time.
    """
    moments = [
        *outcome.plan.requeue_at,
        conditions.start_deadline(outcome),
        conditions.overdue_at(outcome),
        report_at,
    ]
    ahead = [
        moment for moment in moments if moment is not None and moment > outcome.now
    ]  # of the plan, so also what is over by now
    return max(0.0, (min(ahead) - now).total_seconds()) if ahead else None


def report_at(outcome: Outcome, now: datetime, delay: timedelta) -> datetime | None:
    """Return until when the status waits, for at most `delay`, because a first start or a deletion may be over soon; None if it
    does not wait. `now` is the time after the writes of this reconcile, which in a burst take seconds.
    """
    if outcome.failure is not None:
        return None
    due = _deletion_due(outcome, delay) if outcome.snapshot.storage.is_deleting else _first_report_due(outcome, delay)
    return _ahead(due, now, delay) if due is not None else None


def claim_details_at(outcome: Outcome, patch: Unstructured, now: datetime, delay: timedelta) -> datetime | None:
    """Return until when the status waits, for at most `delay`, because `patch` has only details of a claim that is about to be
    bound, in several steps; None if it does not wait. `now` is the time after the writes of this reconcile.
    """
    claim = outcome.snapshot.children.pvc
    if patch.keys() != {"storage"} or claim is None:
        return None
    return _ahead(parse_time(claim["metadata"]["creationTimestamp"]) + delay, now, delay)


def _ahead(due: datetime, now: datetime, delay: timedelta) -> datetime | None:
    """Return `due` if it is in the future.

    The times are from the API server's clock: if the clocks differ, the wait must not become longer. The second is for a response
    that crossed a tick of the API server's clock.
    """
    return due if now < due <= now + delay + timedelta(seconds=1) else None


def _first_report_due(outcome: Outcome, delay: timedelta) -> datetime | None:
    pod = outcome.snapshot.children.pod
    if "observedGeneration" in outcome.snapshot.status or pod is None:
        return None
    # The kubelet starts no pod before its claim is bound: if the cached claim is not, its watch is behind, and only its details wait.
    if pod_status.is_ready(pod) or pod_status.not_ready_finding(pod).reason not in _STARTING:
        return None
    return parse_time(pod["metadata"]["creationTimestamp"]) + min(delay, outcome.snapshot.storage.lifecycle.start_timeout)


def _deletion_due(outcome: Outcome, delay: timedelta) -> datetime | None:
    deleted_at = outcome.snapshot.storage.meta.deleted_at
    if deleted_at is None or outcome.snapshot.status.get("phase") == Phase.TERMINATING:
        return None
    return deleted_at + min(delay, outcome.snapshot.storage.lifecycle.deletion_timeout)
