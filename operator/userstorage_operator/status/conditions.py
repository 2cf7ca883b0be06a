"""The conditions of a UserStorage, each one function of the verdict. Nothing here looks at earlier conditions."""

from datetime import datetime, timedelta

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import NameConflict, Retry
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import is_terminating
from userstorage_operator.plan import pod as plans
from userstorage_operator.status.network_ready import network_ready
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.storage_ready import NEEDS_MANUAL_ACTION, keeps_pod_from_starting, storage_ready

_DEFERRALS = {
    "UpdateDeferred": "a newer pod waits for the next suspension (updateStrategy WhenSuspended)",
    "WaitingForRollout": "a newer pod waits for its turn in the rollout of the class (rollout.maxUnavailable)",
}


def conditions(outcome: Outcome) -> list[Condition]:
    """All of them, in the order in which they are shown."""
    return [
        ready(outcome),
        storage_ready(outcome),
        pod_up_to_date(outcome),
        network_ready(outcome),
        suspended(outcome),
        reconciling(outcome),
        stalled(outcome),
    ]


def ready(outcome: Outcome) -> Condition:
    """True while the pod serves. A failure that leaves a serving pod alone is told by Reconciling and Stalled, a soft one
    by Reconciling only.
    """
    finding = not_ready_finding(outcome)
    if finding is None:
        return Condition(reasons.READY, True, "PodReady", "the browser answers and sees its volume")
    return Condition(reasons.READY, False, finding.reason, finding.message)


def not_ready_finding(outcome: Outcome) -> Finding | None:
    """None for a pod of ours that is ready and meant to stay."""
    snapshot, pod = outcome.snapshot, outcome.snapshot.own_pod
    if snapshot.storage.is_deleting:
        return Finding("Terminating", "the UserStorage is being deleted")
    if snapshot.storage.suspended and outcome.blocking_failure is None:
        return Finding("Suspended", "spec.replicas is 0; the data is kept")
    if pod is not None:
        if is_terminating(pod):
            return Finding(
                "PodTerminating", f"the old pod is ending; a new one follows{pod_status.termination_note(pod, outcome.now)}"
            )
        if pod_status.is_ready(pod):
            return None
        if outcome.blocking_failure is None:
            return keeps_pod_from_starting(outcome) or _starting(outcome, pod_status.not_ready_finding(pod))
    if outcome.blocking_failure is not None:
        return Finding(outcome.blocking_failure.error.reason, outcome.blocking_failure.error.message)
    if outcome.plan.hold == "StorageNotReady":
        return Finding("StorageNotReady", storage_ready(outcome).message)
    if outcome.plan.hold == "PodBackoff":
        starts = snapshot.pod_backoff
        lost = f"; the last was lost because {starts.last_loss}" if starts.last_loss else ""
        words = f"the pod was made {starts.count} times in quick succession{lost}; the next comes after a pause"
        return Finding("PodBackoff", words)
    return Finding("PodPending", "the pod is being made")


def _starting(outcome: Outcome, finding: Finding) -> Finding:
    """The plain reasons of a slow start become StartTimeout in time; telling ones (a crash, an image) stay."""
    timeout = outcome.snapshot.storage.lifecycle.start_timeout
    if finding.reason in ("PodPending", "PodNotReady") and timed_out(outcome):
        return Finding("StartTimeout", f"not ready {_duration(timeout)} after its start: {finding.message}")
    return finding


def start_deadline(outcome: Outcome) -> datetime | None:
    """When the start of the present pod counts as failed; None where it is ready or there is none."""
    pod = outcome.snapshot.children.pod
    if pod is None or is_terminating(pod) or pod_status.is_ready(pod):
        return None
    return unready_since(pod) + outcome.snapshot.storage.lifecycle.start_timeout


def unready_since(pod: Unstructured) -> datetime:
    """Since when it has not been ready: its creation, or the moment its Ready condition flipped."""
    ready_condition = pod_status.condition(pod, "Ready")
    return parse_time((ready_condition or {}).get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def timed_out(outcome: Outcome) -> bool:
    """Whether the present pod has had its time to start."""
    deadline = start_deadline(outcome)
    return deadline is not None and outcome.now >= deadline


def pod_up_to_date(outcome: Outcome) -> Condition:
    """Whether the pod is the one that spec and class ask for now."""
    pod, desired = outcome.snapshot.children.pod, outcome.desired
    leaving = pod is not None and is_terminating(pod)
    if desired is not None and not leaving and (deferral := plans.deferral(outcome.snapshot, desired)) is not None:
        return Condition(reasons.POD_UP_TO_DATE, False, deferral, _DEFERRALS[deferral])
    if desired is None or pod is None or leaving or plans.pod_hash(pod) != desired.pod_hash:
        if outcome.snapshot.storage.suspended and pod is None:
            return Condition(reasons.POD_UP_TO_DATE, True, "Suspended", "no pod is wanted")
        return Condition(reasons.POD_UP_TO_DATE, False, "Recreating", "a pod of the current spec is not there yet")
    return Condition(reasons.POD_UP_TO_DATE, True, "UpToDate", "the pod is what spec and class ask for")


def suspended(outcome: Outcome) -> Condition:
    """Whether the pod is stopped on purpose."""
    if outcome.snapshot.storage.suspended:
        if outcome.snapshot.own_pod is not None:
            return Condition(reasons.SUSPENDED, False, "Stopping", f"spec.replicas is 0; the pod is ending{_ending(outcome)}")
        return Condition(reasons.SUSPENDED, True, "Requested", "spec.replicas is 0")
    return Condition(reasons.SUSPENDED, False, "Running", "spec.replicas is 1")


def stalled(outcome: Outcome) -> Condition:
    """kstatus: True where nothing will move without a change by people (abnormal-true)."""
    finding = _stalled_finding(outcome)
    if finding is None:
        return Condition(reasons.STALLED, False, "NotStalled", "")
    return Condition(reasons.STALLED, True, finding.reason, finding.message)


def _stalled_finding(outcome: Outcome) -> Finding | None:
    if outcome.snapshot.storage.is_deleting:
        deadline = plans.deletion_deadline(outcome.snapshot)
        if deadline is None or outcome.now < deadline:
            return None
        return _not_ended(outcome, "the deletion")
    deadline = plans.pod_termination_deadline(outcome.snapshot)
    if deadline is not None and outcome.now >= deadline:
        return _not_ended(outcome, "its grace period")
    if outcome.blocking_failure is not None:
        error = outcome.blocking_failure.error
        needs_people = error.retry is Retry.ON_CHANGE or isinstance(error, NameConflict)
        return Finding(error.reason, error.message) if needs_people else None
    storage = storage_ready(outcome)
    if storage.reason in NEEDS_MANUAL_ACTION:
        return Finding(storage.reason, storage.message)
    if not outcome.snapshot.storage.suspended and timed_out(outcome):
        finding = not_ready_finding(outcome)
        return Finding("StartTimeout", finding.message if finding else "")
    return None


def _not_ended(outcome: Outcome, since: str) -> Finding:
    timeout = _duration(outcome.snapshot.storage.lifecycle.deletion_timeout)
    return Finding("DeletionTimedOut", f"the pod is still there {timeout} after {since}; it is never forced{_ending(outcome)}")


def reconciling(outcome: Outcome) -> Condition:
    """kstatus: True while something is still on its way (abnormal-true)."""

    def yes(reason: str, message: str) -> Condition:
        return Condition(reasons.RECONCILING, True, reason, message)

    if stalled(outcome).status:
        return Condition(reasons.RECONCILING, False, "Done", "see Stalled")
    if outcome.snapshot.storage.is_deleting:
        if names.FINALIZER in outcome.snapshot.storage.meta.finalizers:
            pod = _ending_pod(outcome)
            collected = pod is not None and pod_status.awaits_garbage_collection(pod, outcome.now)
            reason = "WaitingForGarbageCollection" if collected else "Terminating"
            return yes(reason, f"waiting for the pod to end{_ending(outcome)}")
        others = ", ".join(outcome.snapshot.storage.meta.finalizers)
        return yes("WaitingForFinalizers", f"the pod is gone; waiting for the finalizers of others: {others}")
    if outcome.failure is not None:
        return yes("Retrying", outcome.failure.error.message)
    settled = outcome.snapshot.children.pod is None if outcome.snapshot.storage.suspended else ready(outcome).status
    if not settled:
        return yes("Progressing", ready(outcome).message)
    return Condition(reasons.RECONCILING, False, "Done", "")


def overdue_at(outcome: Outcome) -> datetime | None:
    """When it is to be told that the pod is still ending; None where none is."""
    pod = _ending_pod(outcome)
    return pod_status.termination_overdue_at(pod) if pod is not None else None


def _ending_pod(outcome: Outcome) -> Unstructured | None:
    pod = outcome.snapshot.own_pod
    return pod if pod is not None and is_terminating(pod) else None


def _ending(outcome: Outcome) -> str:
    pod = _ending_pod(outcome)
    return pod_status.termination_note(pod, outcome.now) if pod is not None else ""


def _duration(length: timedelta) -> str:
    return f"{length.total_seconds():g} s"
