"""What others have to do with a claim: who names it, who mounts it, and what the cluster says of mounting it."""

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
    """A pod of somebody else that is on a node and mounts the claim."""

    pod: str
    node: str


@dataclass(frozen=True, slots=True)
class ClaimContext:
    """The part of a world that belongs to others."""

    claim_holder: str | None = None
    """Name of another UserStorage that comes first with the claim."""
    claim_read_error: str | None = None
    """Why the claim that the spec names was not looked up: that the world is without one says nothing then."""
    binding_modes: Mapping[str, str] = field(default_factory=dict)
    """volumeBindingMode of every StorageClass."""
    mounts: tuple[Mount, ...] | None = None
    """None where nobody looked: that costs a request."""
    mount_failure: Finding | None = None
    """What the cluster last said of mounting the claim for the present pod."""
    events_read_at: datetime | None = None
    """When that was looked up; None where there was no need to."""


def needs_claim(storage: Unstructured) -> bool:
    """Whether a raw UserStorage wants its claim, or has not let go of it yet."""
    meta = storage["metadata"]
    return "deletionTimestamp" not in meta or names.FINALIZER in meta.get("finalizers", ())


def mounted_claims(pod: Unstructured) -> Iterator[str]:
    """Names of the claims among the volumes of a pod."""
    for volume in pod["spec"].get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            yield claim["claimName"]


def mounts_of(claim: str, pods: Iterable[Unstructured]) -> tuple[Mount, ...]:
    """Those of `pods` that have the claim on a node and have not ended, in an order that does not change."""
    found = [
        Mount(pod["metadata"]["name"], pod["spec"]["nodeName"])
        for pod in pods
        if pod["spec"].get("nodeName")
        and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        and claim in mounted_claims(pod)
    ]
    return tuple(sorted(found, key=lambda mount: (mount.node, mount.pod)))


def mount_failure(events: Iterable[Unstructured]) -> Finding | None:
    """What a pod's events say about its volume since that was attached last; None where that is nothing bad.

    Events repeat with pauses of up to two minutes and are kept for an hour: only the newest counts. But the kubelet goes
    on telling that it waits in vain while another node has the volume: that one explains the other, whichever came last.
    """
    telling = sorted((event for event in events if event.get("reason") in _MOUNT_REASONS), key=_last_seen, reverse=True)
    failures = list(takewhile(lambda event: event["reason"] != _ATTACHED, telling))
    if not failures:
        return None
    cause = next(filter(_is_multi_attach, failures), failures[0])
    return Finding("MultiAttach" if _is_multi_attach(cause) else "FailedMount", cause.get("message") or cause["reason"])


def _is_multi_attach(event: Unstructured) -> bool:
    return event["reason"] == "FailedAttachVolume" and "Multi-Attach" in (event.get("message") or "")


def _last_seen(event: Unstructured) -> datetime:
    """Old and new ways of telling when an event last came; the fields of the other way are null."""
    series = event.get("series") or {}
    told = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return parse_time(told or event["metadata"]["creationTimestamp"])
