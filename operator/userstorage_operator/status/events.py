"""What of a new status is news to a person: Kubernetes Events for the flips of conditions, and for failures. Pure.

An event is a request to the API server, and a burst of creations must not cost more of them than it has to: a start that
goes well is told once, by Ready. What leads there, and what merely mirrors another condition, is not told.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from userstorage_operator.api import reasons
from userstorage_operator.api.unstructured import Unstructured

NORMAL = "Normal"
WARNING = "Warning"
NOTE_MAX = 1024
"""Bytes that the API server takes as a note."""
_NAME_MAX = 253

_ACTIONS = {
    reasons.STORAGE_READY: "ProvideStorage",
    reasons.READY: "Serve",
    reasons.NETWORK_READY: "Connect",
    reasons.POD_UP_TO_DATE: "Update",
    reasons.SUSPENDED: "Suspend",
    reasons.STALLED: "Reconcile",
}
"""Condition type -> what was being done. Of several that say the same, the first is told. Reconciling mirrors Ready."""

_NORMAL_COURSE = {
    reasons.STORAGE_READY: {"ClaimBound", "ClaimNotFound", "ClaimPending", "WaitForFirstConsumer"},
    reasons.READY: {
        "PodReady",
        "Pending",
        "PodPending",
        "PodNotReady",
        "PodTerminating",
        "Suspended",
        "Terminating",
        "WaitingForGarbageCollection",
        "NamespaceTerminating",  # which takes no events either
        "APIUnavailable",  # one hiccup of the API server would be told by every object at once, to that same API server
    },
    reasons.NETWORK_READY: {"Synced", "Pending", "OutOfSync", "RoutePending"},
    reasons.POD_UP_TO_DATE: {"UpToDate", "Recreating", "Suspended", "UpdateDeferred", "WaitingForRollout"},
    reasons.SUSPENDED: {"Requested", "Running", "Stopping"},
    reasons.STALLED: {"NotStalled"},
}
"""Reasons that are no failure; every other one is, so that a new reason is told before anybody thinks of it here."""


class StatusEvent(NamedTuple):
    """One event, but for the object that it is about and the time; one log line too."""

    type: str
    reason: str
    action: str
    note: str
    conditions: tuple[str, ...]
    """`Ready=False`: the conditions that say so, the telling one first."""


def status_events(previous: Unstructured, current: Unstructured) -> Iterator[StatusEvent]:
    """What to tell of a status that has become `current`; nothing where it says what it said before."""
    before, after = _by_type(previous), _by_type(current)
    told: dict[str, StatusEvent] = {}
    for condition_type, action in _ACTIONS.items():
        now, old = after.get(condition_type), before.get(condition_type, {})
        if now is None or (kind := _kind(condition_type, old, now)) is None:
            continue
        note, flip = printable(now["message"] or now["reason"]), f"{condition_type}={now['status']}"
        first = told.get(note) or StatusEvent(kind, now["reason"], action, note, ())
        told[note] = first._replace(conditions=(*first.conditions, flip))
    yield from told.values()


_CLASS_WARNINGS = {
    reasons.READY: {"InvalidSpec"},
    reasons.DEFAULT: {"SeveralDefaults", "OlderDefaultWins"},
    reasons.IMAGE_PINNED: {"NoDigest"},
}


def class_events(previous: Unstructured, current: Unstructured) -> Iterator[StatusEvent]:
    """As `news`, for a UserStorageClass: what its administrator should mend, and that it was mended."""
    before = _by_type(previous)
    for condition_type, now in _by_type(current).items():
        old, failures = before.get(condition_type, {}), _CLASS_WARNINGS.get(condition_type, set())
        if (old.get("status"), old.get("reason")) == (now["status"], now["reason"]):
            continue
        if now["reason"] in failures or old.get("reason") in failures:
            kind = WARNING if now["reason"] in failures else NORMAL
            note, flip = printable(now["message"] or now["reason"]), f"{condition_type}={now['status']}"
            yield StatusEvent(kind, now["reason"], "CheckClass", note, (flip,))


def _kind(condition_type: str, old: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Normal or Warning; None where the condition has no news.

    Of the parts (storage, network, the pod's version) only failures, and their ends, are news: the rest of their flips
    belongs to a start, which Ready tells.
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
        # A pod that starts is not ready at first; one that was ready has failed its probe.
        return WARNING if now["reason"] == "PodNotReady" else NORMAL
    if condition_type == reasons.SUSPENDED and old.get("status") in ("True", "False"):
        return NORMAL
    return NORMAL if old and is_failure(condition_type, old["reason"]) else None


def is_failure(condition_type: str, reason: str) -> bool:
    """Whether a condition with that reason is a warning of its own; one that mirrors others never is."""
    return condition_type in _NORMAL_COURSE and reason not in _NORMAL_COURSE[condition_type]


def _by_type(status: Unstructured) -> dict[str, Mapping[str, str]]:
    return {entry["type"]: entry for entry in status.get("conditions") or ()}


def printable(text: str) -> str:
    """`text` as a note: no control characters (it is shown on terminals and holds words of strangers), at most 1 KiB."""
    clean = "".join(char if char.isprintable() else " " if char.isspace() else "?" for char in text)
    return clean.encode()[:NOTE_MAX].decode(errors="ignore")


def event_name(about: Unstructured, told: StatusEvent) -> str:
    """The same for the same news of the same object, also after a restart: the name is what tells repetitions apart."""
    essence = "\0".join((about["metadata"]["uid"], told.type, told.reason, told.note))
    digest = hashlib.sha256(essence.encode()).hexdigest()[:16]
    return f"{about['metadata']['name'][: _NAME_MAX - 17].rstrip('.-')}.{digest}"
