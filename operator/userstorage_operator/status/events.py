"""Kubernetes Events about changes of a status: a condition becomes True or False, or reports a failure. Pure functions.

Each Event is a request to the API server, and a burst of creations must not cause more of them than necessary. A start whose
first report says Ready is only logged. The steps of a start, and conditions that only mirror another condition, cause no Event.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from userstorage_operator.api import reasons
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.text import printable

NORMAL = "Normal"
WARNING = "Warning"
NOTE_MAX = 1024
"""Maximum size of `note` of an Event that the API server accepts, in bytes."""
_NAME_MAX = 253

_ACTIONS = {
    reasons.STORAGE_READY: "ProvideStorage",
    reasons.READY: "Serve",
    reasons.NETWORK_READY: "Connect",
    reasons.POD_UP_TO_DATE: "Update",
    reasons.SUSPENDED: "Suspend",
    reasons.PAUSED: "Pause",
    reasons.STALLED: "Reconcile",
}
"""Condition type -> `action` of the Event about it. Conditions with the same message share one Event, whose action is that of
the first type here. Reconciling mirrors Ready and has no Events.
"""

_NORMAL_REASONS = {
    reasons.STORAGE_READY: {"ClaimBound", "ClaimNotFound", "ClaimPending", "WaitForFirstConsumer"},
    reasons.READY: {
        "PodReady",
        "Pending",
        "PodPending",
        "PodNotReady",
        "SchedulingGated",
        "ReadinessGatesNotReady",
        "PodTerminating",
        "Suspended",
        "Terminating",
        "WaitingForGarbageCollection",
        "NamespaceTerminating",  # a terminating namespace does not accept events either
        "APIUnavailable",  # every object would send an event at once, to the API server that just failed
    },
    reasons.NETWORK_READY: {"Synced", "Pending", "OutOfSync", "RoutePending"},
    reasons.POD_UP_TO_DATE: {
        *("UpToDate", "Recreating", "Suspended", "Terminating", "UpdateDeferred", "WaitingForRollout", "RolloutPaused"),
        "Stalled",  # the condition of that name is the failure
    },
    reasons.SUSPENDED: {"Requested", "Running", "Stopping"},
    reasons.PAUSED: {"Paused", "NotPaused"},
    reasons.STALLED: {"NotStalled"},
}
"""Condition type -> reasons that are no failure. All others are failures, so that a new reason is reported by default."""


class StatusEvent(NamedTuple):
    """The content of one Kubernetes Event, and of the log line about the same change, without the object and the time."""

    type: str
    reason: str
    action: str
    note: str
    conditions: tuple[str, ...]
    """The conditions whose message is this note, such as `Ready=False`. `reason` and `action` are those of the first."""
    log_only: bool = False
    """Whether it is no Event, only a log line: a start that went well before its progress was reported."""


def status_events(previous: Unstructured, current: Unstructured) -> Iterator[StatusEvent]:
    """Yield the Events about the change of a UserStorage's status from `previous` to `current`, one for each distinct note."""
    before, after = _by_type(previous), _by_type(current)
    events: dict[str, StatusEvent] = {}
    for condition_type, action in _ACTIONS.items():
        now, old = after.get(condition_type), before.get(condition_type, {})
        if now is None or (kind := _kind(condition_type, old, now)) is None:
            continue
        note, flip = note_of(now["message"] or now["reason"]), f"{condition_type}={now['status']}"
        log_only = kind == NORMAL and condition_type == reasons.READY and not _was_reported(old)
        first = events.get(note) or StatusEvent(kind, now["reason"], action, note, (), log_only)
        events[note] = first._replace(conditions=(*first.conditions, flip))
    yield from events.values()


_CLASS_WARNINGS = {
    reasons.READY: {"InvalidSpec", "DryRunRefused"},
    reasons.DEFAULT: {"SeveralDefaults", "OlderDefaultWins"},
    reasons.IMAGE_PINNED: {"NoDigest"},
    reasons.END_OF_LIFE: {"NoSecurityFixes"},
}


def class_events(previous: Unstructured, current: Unstructured) -> Iterator[StatusEvent]:
    """Yield an Event for each problem of a UserStorageClass that is new in `current`, or was fixed since `previous`."""
    before = _by_type(previous)
    for condition_type, now in _by_type(current).items():
        old, failures = before.get(condition_type, {}), _CLASS_WARNINGS.get(condition_type, set())
        if (old.get("status"), old.get("reason")) == (now["status"], now["reason"]):
            continue
        if now["reason"] in failures or old.get("reason") in failures:
            kind = WARNING if now["reason"] in failures else NORMAL
            note, flip = note_of(now["message"] or now["reason"]), f"{condition_type}={now['status']}"
            yield StatusEvent(kind, now["reason"], "CheckClass", note, (flip,))


def _kind(condition_type: str, old: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Return the type of the Event about a change of a condition, Normal or Warning; None if it deserves no Event.

    StorageReady, NetworkReady and PodUpToDate cause Events only for failures and recoveries: their other changes are part
    of a start, which Ready reports.
    """
    if (old.get("status"), old.get("reason")) == (now["status"], now["reason"]):
        return None
    if is_failure(condition_type, now["reason"]):
        return WARNING
    if now["reason"] == "UpdateDeferred":
        return NORMAL
    if old.get("status") == now["status"]:
        return None
    if condition_type == reasons.READY and "True" in (old.get("status"), now["status"]):
        # A starting pod is not ready at first; here it was ready and now fails its probe.
        return WARNING if now["reason"] == "PodNotReady" else NORMAL
    if condition_type in (reasons.SUSPENDED, reasons.PAUSED) and old.get("status") in ("True", "False"):
        return NORMAL
    return NORMAL if old and is_failure(condition_type, old["reason"]) else None


def _was_reported(condition: Mapping[str, str]) -> bool:
    """Whether the operator has written the condition: it is neither absent nor the default of the CRD's schema."""
    return condition.get("status") in ("True", "False")


def is_failure(condition_type: str, reason: str) -> bool:
    """Whether a condition of that type causes a Warning Event with that reason. Never for Reconciling, which mirrors Ready."""
    return condition_type in _NORMAL_REASONS and reason not in _NORMAL_REASONS[condition_type]


def _by_type(status: Unstructured) -> dict[str, Mapping[str, str]]:
    return {entry["type"]: entry for entry in status.get("conditions") or ()}


def note_of(message: str) -> str:
    """Return `message` as a note of at most 1 KiB without control characters."""
    return printable(message).encode()[:NOTE_MAX].decode(errors="ignore")


def event_name(about: Unstructured, event: StatusEvent) -> str:
    """Return the name of the Event: the name of the object `about`, and a hash of the content.

    The same Event has the same name after a restart of the operator, so that a repetition is recognised.
    """
    content = "\0".join((about["metadata"]["uid"], event.type, event.reason, event.note))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return f"{about['metadata']['name'][: _NAME_MAX - 17].rstrip('.-')}.{digest}"
