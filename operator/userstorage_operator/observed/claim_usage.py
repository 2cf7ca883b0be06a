"""The use of a claim by other objects: UserStorages that name it, pods that mount it, and events about mounting it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

from userstorage_operator.api import names
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.pod_status import Finding

_ATTACHED = "SuccessfulAttachVolume"
_MOUNT_REASONS = frozenset({"FailedMount", "FailedAttachVolume", _ATTACHED})


@dataclass(frozen=True, slots=True)
class Mount:
    """Another pod that mounts the claim, and its node."""

    pod: str
    node: str


@dataclass(frozen=True, slots=True)
class ClaimContext:
    """The part of a snapshot about the claim that other UserStorages, StorageClasses, pods and events determine."""

    claim_holder: str | None = None
    """Name of the other UserStorage that holds the claim; None if no other one does."""
    claim_read_error: str | None = None
    """Why the claim that the spec names was not read; None if there was no error.

    If it was not read, the snapshot has no claim, although the claim may exist.
    """
    binding_modes: Mapping[str, str] = field(default_factory=dict)
    """volumeBindingMode of every StorageClass."""
    mounts: tuple[Mount, ...] | None = None
    """The other pods that mount the claim; None if they were not listed, because the list costs a request."""
    mount_failure: Finding | None = None
    """The latest failure to mount the claim for the current pod, from its events."""
    events_read_at: datetime | None = None
    """When the events of the pod were last read; None if they were not."""


def needs_claim(storage: Unstructured) -> bool:
    """Whether an unparsed UserStorage needs its claim: it is not being deleted, or its pod may still exist (our finalizer)."""
    meta = storage["metadata"]
    return "deletionTimestamp" not in meta or names.FINALIZER in meta.get("finalizers", ())


def mounted_claims(pod: Unstructured) -> Iterator[str]:
    """Yield the names of the claims among the volumes of a pod."""
    for volume in pod["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield claim["claimName"]


def mounts_of(claim: str, pods: Iterable[Unstructured]) -> tuple[Mount, ...]:
    """Return the pods that mount the claim, have a node and have not finished, sorted by node and name."""
    mounts = [
        Mount(pod["metadata"]["name"], pod["spec"]["nodeName"])
        for pod in pods
        if pod["spec"].get("nodeName")
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        and claim in mounted_claims(pod)
    ]
    return tuple(sorted(mounts, key=lambda mount: (mount.node, mount.pod)))


def mount_failure(events: Iterable[Unstructured]) -> Finding | None:
    """Return the mount failure in a pod's events since the volume was last attached; None if there is none.

    Events repeat at intervals of up to two minutes and are kept for an hour, so only the newest failure counts. A
    Multi-Attach failure takes precedence: it explains the mount timeouts that the kubelet keeps reporting meanwhile.
    """
    relevant = sorted((event for event in events if event.get("reason") in _MOUNT_REASONS), key=_last_seen, reverse=True)
    failures = list(takewhile(lambda event: event["reason"] != _ATTACHED, relevant))
    if not failures:
        return None
    cause = next(filter(_is_multi_attach, failures), failures[0])
    return Finding("MultiAttach" if _is_multi_attach(cause) else "FailedMount", cause.get("message") or cause["reason"])


def _is_multi_attach(event: Unstructured) -> bool:
    return event["reason"] == "FailedAttachVolume" and "Multi-Attach" in (event.get("message") or "")


def _last_seen(event: Unstructured) -> datetime:
    """Return when an event last occurred. Events that were written through the two events APIs have it in different fields."""
    series = event.get("series") or {}
    time = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(time or event["metadata"]["creationTimestamp"])
