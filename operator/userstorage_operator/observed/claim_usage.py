"""The use of a claim: UserStorages that need it, pods that mount it, and Events about mounting its volume."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

from userstorage_operator.api import names
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed.pod_status import Finding

_ATTACHED = "SuccessfulAttachVolume"
MOUNT_REASONS = ("FailedMount", "FailedAttachVolume", _ATTACHED)
"""Reasons of the Events about mounting the volumes of a pod."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Names of a pod that mounts a claim, and of the node that it runs on."""

    pod: str
    node: str


@dataclass(frozen=True, slots=True)
class ClaimContext:
    """The part of a snapshot that says how other objects affect the claim: UserStorages, StorageClasses, pods and Events."""

    claim_holder: str | None = None
    """Name of another UserStorage that holds the claim; None if no other UserStorage holds it."""
    claim_read_error: str | None = None
    """Why the claim that the spec names was not read; None if there was no error.

    After an error, the snapshot has no claim, although the claim may exist.
    """
    binding_modes: Mapping[str, str] = field(default_factory=dict)
    """Name of a StorageClass -> its volumeBindingMode."""
    mounts: tuple[Mount, ...] | None = None
    """The other pods that mount the claim; None if they were not listed, because the list costs a request."""
    mount_failure: Finding | None = None
    """The latest failure to mount the claim for the current pod, from the Events of the pod; None if none is known."""
    waiting_since: datetime | None = None
    """Since when the pod waits for its claim, as far as this process knows; None if it did not wait before this reconcile."""
    events_read_at: datetime | None = None
    """When the Events of the current pod were last read; None if they were not read."""


def needs_claim(storage: Unstructured) -> bool:
    """Whether a raw UserStorage needs its claim: it is not being deleted, or our finalizer shows that a pod may exist."""
    meta = storage["metadata"]
    return "deletionTimestamp" not in meta or names.FINALIZER in meta.get("finalizers", ())


def mounted_claims(pod: Unstructured) -> Iterator[str]:
    """Yield the names of the claims among the volumes of a pod."""
    for volume in pod["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield claim["claimName"]


def mounts_of(claim: str, pods: Iterable[Unstructured]) -> tuple[Mount, ...]:
    """Return those of `pods` that mount the claim, have a node and have not finished, sorted by node and name."""
    mounts = [
        Mount(pod["metadata"]["name"], pod["spec"]["nodeName"])
        for pod in pods
        if pod["spec"].get("nodeName")
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        and claim in mounted_claims(pod)
    ]
    return tuple(sorted(mounts, key=lambda mount: (mount.node, mount.pod)))


def mount_failure(events: Iterable[Unstructured]) -> Finding | None:
    """Return the failure to mount a volume from the Events of its pod, since the last attachment; None if there is none.

    Events repeat at intervals of up to two minutes and are kept for an hour, so only the newest failure counts. A
    Multi-Attach failure takes precedence: it explains the mount timeouts that the kubelet keeps reporting meanwhile.
    """
    relevant = sorted((event for event in events if event.get("reason") in MOUNT_REASONS), key=_last_seen, reverse=True)
    failures = list(takewhile(lambda event: event["reason"] != _ATTACHED, relevant))
    if not failures:
        return None
    cause = next(filter(_is_multi_attach, failures), failures[0])
    return Finding("MultiAttach" if _is_multi_attach(cause) else "FailedMount", cause.get("message") or cause["reason"])


def _is_multi_attach(event: Unstructured) -> bool:
    return event["reason"] == "FailedAttachVolume" and "Multi-Attach" in (event.get("message") or "")


def _last_seen(event: Unstructured) -> datetime:
    """Return when an Event last occurred. The field depends on whether it was written as a core or an events.k8s.io Event."""
    series = event.get("series") or {}
    time = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(time or event["metadata"]["creationTimestamp"])
