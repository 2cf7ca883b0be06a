"""The conditions of a UserStorage, each one function of the verdict. Nothing here looks at earlier conditions."""

from datetime import datetime, timedelta

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import NameConflict, Retry
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Object
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import is_ours, is_terminating
from userstorage_operator.plan import planner as plans
from userstorage_operator.status.network_ready import network_ready
from userstorage_operator.status.outcome import Verdict
from userstorage_operator.status.storage_ready import NEEDS_PEOPLE, keeps_pod_from_starting, storage_ready

_DEFERRALS = {
    "UpdateDeferred": "a newer pod waits for the next suspension (updateStrategy WhenSuspended)",
    "WaitingForRollout": "a newer pod waits for its turn in the rollout of the class (rollout.maxUnavailable)",
}


def conditions(verdict: Verdict) -> list[Condition]:
    """All of them, in the order in which they are shown."""
    return [
        ready(verdict),
        storage_ready(verdict),
        pod_up_to_date(verdict),
        network_ready(verdict),
        suspended(verdict),
        reconciling(verdict),
        stalled(verdict),
    ]


def ready(verdict: Verdict) -> Condition:
    """True while the pod serves. A failure that leaves a serving pod alone is told by Reconciling and Stalled, a soft one
    by Reconciling only.
    """
    finding = why_not_ready(verdict)
    if finding is None:
        return Condition(reasons.READY, True, "PodReady", "the browser answers and sees its volume")
    return Condition(reasons.READY, False, finding.reason, finding.message)


def why_not_ready(verdict: Verdict) -> Finding | None:
    """None for a pod of ours that is ready and meant to stay."""
    world, pod = verdict.world, verdict.world.children.pod
    if world.storage.meta.deleted_at is not None:
        return Finding("Terminating", "the UserStorage is being deleted")
    if world.storage.suspended and verdict.hindrance is None:
        return Finding("Suspended", "spec.replicas is 0; the data is kept")
    if pod is not None and is_ours(pod, world.storage.meta.uid):
        if is_terminating(pod):
            return Finding("PodTerminating", f"the old pod is ending; a new one follows{pod_status.ending(pod, verdict.now)}")
        if pod_status.is_ready(pod):
            return None
        if verdict.hindrance is None:
            return keeps_pod_from_starting(verdict) or _starting(verdict, pod_status.why_not_ready(pod))
    if verdict.hindrance is not None:
        return Finding(verdict.hindrance.error.reason, verdict.hindrance.error.message)
    if verdict.plan.hold == "StorageNotReady":
        return Finding("StorageNotReady", storage_ready(verdict).message)
    if verdict.plan.hold == "PodBackoff":
        starts = world.pod_starts
        lost = f"; the last was lost because {starts.lost}" if starts.lost else ""
        words = f"the pod was made {starts.count} times in quick succession{lost}; the next comes after a pause"
        return Finding("PodBackoff", words)
    return Finding("PodPending", "the pod is being made")


def _starting(verdict: Verdict, finding: Finding) -> Finding:
    """The plain reasons of a slow start become StartTimeout in time; telling ones (a crash, an image) stay."""
    timeout = verdict.world.storage.lifecycle.start_timeout
    if finding.reason in ("PodPending", "PodNotReady") and timed_out(verdict):
        return Finding("StartTimeout", f"not ready {_duration(timeout)} after its start: {finding.message}")
    return finding


def start_deadline(verdict: Verdict) -> datetime | None:
    """When the start of the present pod counts as failed; None where it is ready or there is none."""
    pod = verdict.world.children.pod
    if pod is None or is_terminating(pod) or pod_status.is_ready(pod):
        return None
    return unready_since(pod) + verdict.world.storage.lifecycle.start_timeout


def unready_since(pod: Object) -> datetime:
    """Since when it has not been ready: its creation, or the moment its Ready condition flipped."""
    ready_condition = pod_status.condition(pod, "Ready")
    return parse_time((ready_condition or {}).get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def timed_out(verdict: Verdict) -> bool:
    """Whether the present pod has had its time to start."""
    deadline = start_deadline(verdict)
    return deadline is not None and verdict.now >= deadline


def pod_up_to_date(verdict: Verdict) -> Condition:
    """Whether the pod is the one that spec and class ask for now."""
    pod, desired = verdict.world.children.pod, verdict.desired
    leaving = pod is not None and is_terminating(pod)
    if desired is not None and not leaving and (deferral := plans.deferral(verdict.world, desired)) is not None:
        return Condition(reasons.POD_UP_TO_DATE, False, deferral, _DEFERRALS[deferral])
    if desired is None or pod is None or leaving or plans.pod_hash(pod) != desired.pod_hash:
        if verdict.world.storage.suspended and pod is None:
            return Condition(reasons.POD_UP_TO_DATE, True, "Suspended", "no pod is wanted")
        return Condition(reasons.POD_UP_TO_DATE, False, "Recreating", "a pod of the current spec is not there yet")
    return Condition(reasons.POD_UP_TO_DATE, True, "UpToDate", "the pod is what spec and class ask for")


def suspended(verdict: Verdict) -> Condition:
    """Whether the pod is stopped on purpose."""
    if verdict.world.storage.suspended:
        pod = verdict.world.children.pod
        if pod is not None and is_ours(pod, verdict.world.storage.meta.uid):
            return Condition(reasons.SUSPENDED, False, "Stopping", f"spec.replicas is 0; the pod is ending{_ending(verdict)}")
        return Condition(reasons.SUSPENDED, True, "Requested", "spec.replicas is 0")
    return Condition(reasons.SUSPENDED, False, "Running", "spec.replicas is 1")


def stalled(verdict: Verdict) -> Condition:
    """kstatus: True where nothing will move without a change by people (abnormal-true)."""
    finding = _why_stalled(verdict)
    if finding is None:
        return Condition(reasons.STALLED, False, "NotStalled", "")
    return Condition(reasons.STALLED, True, finding.reason, finding.message)


def _why_stalled(verdict: Verdict) -> Finding | None:
    if verdict.world.storage.meta.deleted_at is not None:
        deadline = plans.deletion_deadline(verdict.world)
        if deadline is None or verdict.now < deadline:
            return None
        return _not_ended(verdict, "the deletion")
    deadline = plans.ending_deadline(verdict.world)
    if deadline is not None and verdict.now >= deadline:
        return _not_ended(verdict, "its grace period")
    if verdict.hindrance is not None:
        error = verdict.hindrance.error
        needs_people = error.retry is Retry.ON_CHANGE or isinstance(error, NameConflict)
        return Finding(error.reason, error.message) if needs_people else None
    storage = storage_ready(verdict)
    if storage.reason in NEEDS_PEOPLE:
        return Finding(storage.reason, storage.message)
    if not verdict.world.storage.suspended and timed_out(verdict):
        finding = why_not_ready(verdict)
        return Finding("StartTimeout", finding.message if finding else "")
    return None


def _not_ended(verdict: Verdict, since: str) -> Finding:
    timeout = _duration(verdict.world.storage.lifecycle.deletion_timeout)
    return Finding("DeletionTimedOut", f"the pod is still there {timeout} after {since}; it is never forced{_ending(verdict)}")


def reconciling(verdict: Verdict) -> Condition:
    """kstatus: True while something is still on its way (abnormal-true)."""

    def yes(reason: str, message: str) -> Condition:
        return Condition(reasons.RECONCILING, True, reason, message)

    if stalled(verdict).status:
        return Condition(reasons.RECONCILING, False, "Done", "see Stalled")
    if verdict.world.storage.meta.deleted_at is not None:
        if names.FINALIZER in verdict.world.storage.meta.finalizers:
            pod = _ending_pod(verdict)
            collected = pod is not None and pod_status.is_left_to_collector(pod, verdict.now)
            reason = "WaitingForGarbageCollection" if collected else "Terminating"
            return yes(reason, f"waiting for the pod to end{_ending(verdict)}")
        others = ", ".join(verdict.world.storage.meta.finalizers)
        return yes("WaitingForFinalizers", f"the pod is gone; waiting for the finalizers of others: {others}")
    if verdict.failure is not None:
        return yes("Retrying", verdict.failure.error.message)
    settled = verdict.world.children.pod is None if verdict.world.storage.suspended else ready(verdict).status
    if not settled:
        return yes("Progressing", ready(verdict).message)
    return Condition(reasons.RECONCILING, False, "Done", "")


def overdue_at(verdict: Verdict) -> datetime | None:
    """When it is to be told that the pod is still ending; None where none is."""
    pod = _ending_pod(verdict)
    return pod_status.overdue_at(pod) if pod is not None else None


def _ending_pod(verdict: Verdict) -> Object | None:
    pod = verdict.world.children.pod
    if pod is None or not is_ours(pod, verdict.world.storage.meta.uid) or not is_terminating(pod):
        return None
    return pod


def _ending(verdict: Verdict) -> str:
    pod = _ending_pod(verdict)
    return pod_status.ending(pod, verdict.now) if pod is not None else ""


def _duration(length: timedelta) -> str:
    return f"{length.total_seconds():g} s"
