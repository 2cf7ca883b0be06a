"""The conditions of a UserStorage, one function per condition, computed from the outcome of a reconcile.

The conditions in the previous status are never an input.
"""

from datetime import datetime, timedelta

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.timestamps import format_time, parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status
from userstorage_operator.observed.lost_claim import waits_for_consent
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import is_terminating
from userstorage_operator.plan import pod as plans
from userstorage_operator.plan import remount
from userstorage_operator.status.network_ready import network_ready
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.storage_ready import NEEDS_MANUAL_ACTION, keeps_pod_from_starting, keeps_running, storage_ready

_DEFERRALS = {
    "UpdateDeferred": "the pod is outdated; it is replaced at the next suspension (updateStrategy WhenSuspended)",
    "RolloutPaused": "the pod is outdated; the class holds its rollout back (rollout.paused)",
    "WaitingForRollout": "the pod is outdated; it is replaced when the rollout of the class allows it (rollout.maxUnavailable)",
    plans.CLAIM_TERMINATING: "the pod is outdated, and its claim is being deleted; see StorageReady",
    plans.CLAIM_LOST: "the pod is outdated, and the volume of its claim no longer exists; see StorageReady",
    plans.CLAIM_NOT_ALLOWED: "the pod is outdated, and the next pod may not use its claim; see StorageReady",
}
_LAST = {
    plans.CLAIM_TERMINATING: "the files of its claim may end with it",
    plans.CLAIM_LOST: "no other pod could mount the volume of its claim",
    plans.CLAIM_NOT_ALLOWED: "the next pod may not use its claim",
}
"""Reason of `plans.kept_as_last` -> why the pod is kept, in words."""
_SLOW_START = frozenset({"PodPending", "PodNotReady", "SchedulingGated", "ReadinessGatesNotReady"})
"""Reasons of a start that goes on; after the start timeout, the message still says what it waits for."""


def conditions(outcome: Outcome) -> list[Condition]:
    """Return all conditions in the order in which they are displayed."""
    return [
        ready(outcome),
        storage_ready(outcome),
        pod_up_to_date(outcome),
        network_ready(outcome),
        suspended(outcome),
        reconciling(outcome),
        stalled(outcome),
        paused(outcome),
    ]


def ready(outcome: Outcome) -> Condition:
    """Return the condition Ready: True while our pod is ready and meant to keep running.

    A failed reconcile alone does not make Ready False. Stalled reports the failure if it is blocking and needs manual action;
    otherwise Reconciling reports it.
    """
    finding = not_ready_finding(outcome)
    if finding is None:
        return Condition(reasons.READY, True, "PodReady", "the browser answers and its volume is accessible")
    return Condition(reasons.READY, False, finding.reason, finding.message)


def not_ready_finding(outcome: Outcome) -> Finding | None:
    """Return why the UserStorage is not ready; None if its own pod is ready and is meant to keep running."""
    snapshot, pod = outcome.snapshot, outcome.snapshot.own_pod
    if snapshot.storage.is_deleting:
        return Finding("Terminating", "the UserStorage is being deleted")
    if snapshot.storage.suspended and outcome.blocking_failure is None:
        return Finding("Suspended", "spec.replicas is 0; the data is kept")
    if pod is not None:
        if is_terminating(pod):
            note = pod_status.termination_note(pod, outcome.now)
            return Finding("PodTerminating", f"the old pod must terminate before a new one is created{note}")
        if pod_status.is_ready(pod):
            return None
        if outcome.blocking_failure is None:
            return keeps_pod_from_starting(outcome) or _starting(outcome, pod_status.not_ready_finding(pod))
    if outcome.blocking_failure is not None:
        return Finding(outcome.blocking_failure.error.reason, outcome.blocking_failure.error.message)
    return _no_pod_finding(outcome)


def _no_pod_finding(outcome: Outcome) -> Finding:
    """Return why there is no pod although nothing failed."""
    if outcome.plan.hold == "StorageNotReady":
        return Finding("StorageNotReady", storage_ready(outcome).message)
    if outcome.plan.hold == "NetworkNotReady":
        return Finding("NetworkNotReady", network_ready(outcome).message)
    if outcome.plan.hold == "PodBackoff":
        backoff = outcome.snapshot.pod_backoff
        cause = f" because {backoff.last_loss}" if backoff.last_loss else ""
        message = f"the pod was lost{cause} (start {backoff.count} in quick succession); the next one is created after a pause"
        return Finding("PodBackoff", message)
    if outcome.contests:  # no pod is created without its NetworkPolicy, claim and Service
        return Finding("Contested", outcome.contests[0].message)
    return Finding("PodPending", "the pod is being created")


def _starting(outcome: Outcome, finding: Finding) -> Finding:
    """Return StartTimeout if the start has timed out and `finding` names no cause such as a crash; else return `finding`."""
    timeout = outcome.snapshot.storage.lifecycle.start_timeout
    if finding.reason in _SLOW_START and timed_out(outcome):
        return Finding(
            "StartTimeout",
            f"the pod has not been ready for {_duration(timeout)} (spec.lifecycle.startTimeout): {finding.message}"
            f"{_remount_note(outcome)}",
        )
    return finding


def _remount_note(outcome: Outcome) -> str:
    """Return the end of a message about a pod that is replaced so that its volume is mounted again; "" for any other pod, also one
    that is kept because no other could follow.
    """
    due = remount.due_at(outcome.snapshot)
    if due is None or plans.kept_as_last(outcome.snapshot) is not None:
        return ""
    times = f", as {outcome.snapshot.remounts} before it" if outcome.snapshot.remounts else ""
    return f"; the volume may have to be mounted again, so the pod is replaced at {format_time(due)}{times}"


def start_deadline(outcome: Outcome) -> datetime | None:
    """Return when the start of the current pod times out; None if the pod is ready, terminating or absent."""
    pod = outcome.snapshot.children.pod
    if pod is None or is_terminating(pod) or pod_status.is_ready(pod):
        return None
    return unready_since(pod) + outcome.snapshot.storage.lifecycle.start_timeout


def unready_since(pod: Unstructured) -> datetime:
    """Return the time since which a pod has not been ready: its creation, or the last transition of its Ready condition."""
    ready_condition = pod_status.condition(pod, "Ready")
    return parse_time((ready_condition or {}).get("lastTransitionTime") or pod["metadata"]["creationTimestamp"])


def timed_out(outcome: Outcome) -> bool:
    """Whether the current pod has not been ready for `lifecycle.startTimeout` or longer."""
    deadline = start_deadline(outcome)
    return deadline is not None and outcome.now >= deadline


def pod_up_to_date(outcome: Outcome) -> Condition:
    """Return the condition PodUpToDate: whether the pod matches the current spec and class."""
    pod, desired = outcome.snapshot.children.pod, outcome.desired
    terminating = pod is not None and is_terminating(pod)
    if desired is not None and (why := plans.kept_despite(outcome.snapshot, desired, outcome.now)) is not None:
        reason = plans.kept_as_last(outcome.snapshot) or ""
        message = f"the pod should be replaced ({why}), but {_LAST[reason]}; see StorageReady"
        return Condition(reasons.POD_UP_TO_DATE, False, reason, message)
    if desired is not None and not terminating and (deferral := plans.deferral(outcome.snapshot, desired)) is not None:
        return Condition(reasons.POD_UP_TO_DATE, False, deferral, _DEFERRALS[deferral])
    if desired is None or pod is None or terminating or not plans.is_current(pod, desired):
        if outcome.snapshot.storage.suspended and pod is None:
            return Condition(reasons.POD_UP_TO_DATE, True, "Suspended", "the UserStorage is suspended and has no pod")
        if outcome.snapshot.storage.is_deleting:
            return Condition(reasons.POD_UP_TO_DATE, False, "Terminating", "the UserStorage is being deleted")
        if desired is None:
            return Condition(
                reasons.POD_UP_TO_DATE, False, "Stalled", "spec and class yield no valid pod: see the condition Stalled"
            )
        return Condition(reasons.POD_UP_TO_DATE, False, "Recreating", "the pod of the current spec does not exist yet")
    return Condition(reasons.POD_UP_TO_DATE, True, "UpToDate", "the pod matches the spec and the class")


def suspended(outcome: Outcome) -> Condition:
    """Return the condition Suspended: whether the pod is stopped because `spec.replicas` is 0."""
    if outcome.snapshot.storage.suspended:
        if outcome.snapshot.own_pod is not None:
            message = f"spec.replicas is 0; the pod is being stopped{_termination_note(outcome)}"
            if plans.claim_is_disappearing(outcome.snapshot):
                message += f"; {storage_ready(outcome).message}"
            return Condition(reasons.SUSPENDED, False, "Stopping", message)
        return Condition(reasons.SUSPENDED, True, "Requested", "spec.replicas is 0")
    return Condition(reasons.SUSPENDED, False, "Running", "spec.replicas is 1")


def paused(outcome: Outcome) -> Condition:
    """Return the condition Paused: whether the annotation userstorage.dev/paused freezes the UserStorage."""
    storage = outcome.snapshot.storage
    if storage.paused:
        message = (
            f"the annotation {names.ANNOTATION_PAUSED} is true: nothing is changed, and the rest of the status is not updated"
        )
        return Condition(reasons.PAUSED, True, "Paused", message)
    value = storage.meta.paused
    ignored = value not in (None, "true", "false")
    message = f"the annotation {names.ANNOTATION_PAUSED} is {value!r}; only 'true' pauses" if ignored else ""
    return Condition(reasons.PAUSED, False, "NotPaused", message)


def stalled(outcome: Outcome) -> Condition:
    """Return the condition Stalled of kstatus: True if nothing progresses without manual action (abnormal-true)."""
    finding = _stalled_finding(outcome)
    if finding is None:
        return Condition(reasons.STALLED, False, "NotStalled", "")
    return Condition(reasons.STALLED, True, finding.reason, finding.message)


def _stalled_finding(outcome: Outcome) -> Finding | None:
    if outcome.snapshot.storage.is_deleting:
        deadline = plans.deletion_deadline(outcome.snapshot)
        if deadline is None or outcome.now < deadline:
            return None
        return _termination_timed_out(outcome, "the deletion of the UserStorage")
    deadline = plans.pod_termination_deadline(outcome.snapshot)
    if deadline is not None and outcome.now >= deadline:
        return _termination_timed_out(outcome, "the end of its grace period")
    if outcome.blocking_failure is not None:
        error = outcome.blocking_failure.error
        return Finding(error.reason, error.message) if outcome.blocking_failure.needs_manual_action else None
    storage = storage_ready(outcome)
    is_served = storage.reason == "ClaimNotAllowed" and outcome.snapshot.own_pod is not None
    is_served |= storage.reason == "ClaimInUse" and keeps_running(outcome)
    waits = storage.reason == "ClaimReplaced" and waits_for_consent(outcome.snapshot)
    if waits or (storage.reason in NEEDS_MANUAL_ACTION and not is_served):
        return Finding(storage.reason, storage.message)
    if not outcome.snapshot.storage.suspended and timed_out(outcome):
        finding = not_ready_finding(outcome)
        return Finding("StartTimeout", finding.message if finding else "")
    return None


def _termination_timed_out(outcome: Outcome, since: str) -> Finding:
    timeout = _duration(outcome.snapshot.storage.lifecycle.deletion_timeout)
    message = f"the pod still exists {timeout} after {since}; it is never force-deleted{_termination_note(outcome)}"
    return Finding("DeletionTimedOut", message)


def reconciling(outcome: Outcome) -> Condition:
    """Return the condition Reconciling of kstatus: True while work towards the spec is under way (abnormal-true)."""

    def in_progress(reason: str, message: str) -> Condition:
        return Condition(reasons.RECONCILING, True, reason, message)

    if stalled(outcome).status:
        return Condition(reasons.RECONCILING, False, "Done", "see the condition Stalled")
    if outcome.snapshot.storage.is_deleting:
        if names.ORPHAN_FINALIZER in outcome.snapshot.storage.meta.finalizers:
            return in_progress("WaitingForGarbageCollection", "waiting for the garbage collector to orphan the children")
        if names.FINALIZER in outcome.snapshot.storage.meta.finalizers:
            pod = _terminating_pod(outcome)
            collectable = pod is not None and pod_status.awaits_garbage_collection(pod, outcome.now)
            reason = "WaitingForGarbageCollection" if collectable else "Terminating"
            return in_progress(reason, f"waiting for the pod to terminate{_termination_note(outcome)}")
        finalizers = ", ".join(outcome.snapshot.storage.meta.finalizers)
        return in_progress(
            "WaitingForFinalizers", f"the pod is gone; waiting for finalizers of other controllers: {finalizers}"
        )
    if outcome.failure is not None:
        return in_progress("Retrying", outcome.failure.error.message)
    if outcome.contests:
        return in_progress("Progressing", outcome.contests[0].message)
    settled = outcome.snapshot.children.pod is None if outcome.snapshot.storage.suspended else ready(outcome).status
    if not settled:
        return in_progress("Progressing", ready(outcome).message)
    return Condition(reasons.RECONCILING, False, "Done", "")


def overdue_at(outcome: Outcome) -> datetime | None:
    """Return when to start reporting that the pod is still terminating; None if no pod is terminating."""
    pod = _terminating_pod(outcome)
    return pod_status.termination_overdue_at(pod) if pod is not None else None


def _terminating_pod(outcome: Outcome) -> Unstructured | None:
    pod = outcome.snapshot.own_pod
    return pod if pod is not None and is_terminating(pod) else None


def _termination_note(outcome: Outcome) -> str:
    pod = _terminating_pod(outcome)
    return pod_status.termination_note(pod, outcome.now) if pod is not None else ""


def _duration(length: timedelta) -> str:
    return f"{length.total_seconds():g} s"
