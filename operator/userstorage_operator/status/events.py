"""Kubernetes Events for changes of a status: conditions that flip, and failures. Pure functions.

Each event is a request to the API server, and a burst of creations must not cause more of them than necessary. A successful
start is one event, that of Ready. Its intermediate steps, and conditions that only mirror another one, cause no event.
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
"""Maximum size of a note that the API server accepts, in bytes."""
_NAME_MAX = 253

_ACTIONS = {
    reasons.STORAGE_READY: "ProvideStorage",
    reasons.READY: "Serve",
    reasons.NETWORK_READY: "Connect",
    reasons.POD_UP_TO_DATE: "Update",
    reasons.SUSPENDED: "Suspend",
    reasons.STALLED: "Reconcile",
}
"""Condition type -> `action` of its event. Conditions with the same message share one event, which the first of
them names. Reconciling mirrors Ready and has no events.
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
    reasons.POD_UP_TO_DATE: {"UpToDate", "Recreating", "Suspended", "UpdateDeferred", "WaitingForRollout"},
    reasons.SUSPENDED: {"Requested", "Running", "Stopping"},
    reasons.STALLED: {"NotStalled"},
}
"""Condition type -> reasons that are no failure. All others are failures, so that a new reason is reported by default."""


class StatusEvent(NamedTuple):
    """The content of one event and of one log line, without the object and the time."""

    type: str
    reason: str
    action: str
    note: str
    conditions: tuple[str, ...]
    """The conditions with this note, such as `Ready=False`. The event is named after the first of them."""


def status_events(previous: Unstructured, current: Unstructured) -> Iterator[StatusEvent]:
    """Yield the events for the change of a status from `previous` to `current`, one for each distinct note."""
    before, after = _by_type(previous), _by_type(current)
    events: dict[str, StatusEvent] = {}
    for condition_type, action in _ACTIONS.items():
        now, old = after.get(condition_type), before.get(condition_type, {})
        if now is None or (kind := _kind(condition_type, old, now)) is None:
            continue
        note, flip = note_of(now["message"] or now["reason"]), f"{condition_type}={now['status']}"
        first = events.get(note) or StatusEvent(kind, now["reason"], action, note, ())
        events[note] = first._replace(conditions=(*first.conditions, flip))
    yield from events.values()


_CLASS_WARNINGS = {
    reasons.READY: {"InvalidSpec", "DryRunRefused"},
    reasons.DEFAULT: {"SeveralDefaults", "OlderDefaultWins"},
    reasons.IMAGE_PINNED: {"NoDigest"},
}


def class_events(previous: Unstructured, current: Unstructured) -> Iterator[StatusEvent]:
    """Yield an event for each new problem of a UserStorageClass that its administrator should fix, and for each fixed one."""
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
    """Return Normal or Warning; None if the change of the condition deserves no event.

    StorageReady, NetworkReady and PodUpToDate cause events only for failures and recoveries: their other flips are part of
    a start, which Ready reports.
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
    if condition_type == reasons.SUSPENDED and old.get("status") in ("True", "False"):
        return NORMAL
    return NORMAL if old and is_failure(condition_type, old["reason"]) else None


def is_failure(condition_type: str, reason: str) -> bool:
    """Whether a condition with that reason causes a Warning; a condition that only mirrors others never does."""
    return condition_type in _NORMAL_REASONS and reason not in _NORMAL_REASONS[condition_type]


def _by_type(status: Unstructured) -> dict[str, Mapping[str, str]]:
    return {entry["type"]: entry for entry in status.get("conditions") or ()}


def note_of(message: str) -> str:
    """Return `message` as a note of at most 1 KiB without control characters."""
    return printable(message).encode()[:NOTE_MAX].decode(errors="ignore")


def event_name(about: Unstructured, event: StatusEvent) -> str:
    """Return the name of an Event, made from its object and content.

    It is the same after a restart of the operator. A repetition is recognised by this name.
    """
    content = "\0".join((about["metadata"]["uid"], event.type, event.reason, event.note))
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    return f"{about['metadata']['name'][: _NAME_MAX - 17].rstrip('.-')}.{digest}"
