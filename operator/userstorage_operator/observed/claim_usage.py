"""The use of a claim: UserStorages that need it, pods that mount it, and Events about mounting its volume."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile

from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.subpath import ROOT, Directory, directory, parse_sub_path
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import named_claim
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
class ClaimUse:
    """A directory of a claim, as a UserStorage wants it or as its pod mounts it."""

    claim: str
    directory: Directory = ROOT
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ClaimContext:
    """The part of a snapshot that says how other objects affect the claim: UserStorages, StorageClasses, pods and Events."""

    claim_holder: str | None = None
    """Name of another UserStorage that holds the claim or its directory; None if no other UserStorage holds it."""
    holder_directory: Directory = ROOT
    """The directory of the claim that `claim_holder` uses."""
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
    recheck_pause: timedelta = timedelta()
    """Minimum time until the named claim is asked for again, if it does not exist."""
    waiting_since: datetime | None = None
    """Since when the pod waits for its claim, as far as this process knows; None if it did not wait before this reconcile."""
    events_read_at: datetime | None = None
    """When the Events of the current pod were last read; None if they were not read."""


def needs_claim(storage: Unstructured) -> bool:
    """Whether a raw UserStorage needs its claim: it is not being deleted, or our finalizer shows that a pod may exist."""
    meta = storage["metadata"]
    return "deletionTimestamp" not in meta or names.FINALIZER in meta.get("finalizers", ())


def wanted_use(storage: Unstructured) -> ClaimUse | None:
    """Return the use of a claim that a raw UserStorage wants; None if its `spec.storage.subPath` is invalid, so that it gets no pod."""
    claim, slug = named_claim(storage), names.slug(storage["spec"]["userID"])
    fields = storage["spec"].get("storage") or {}
    sub_path = fields.get("subPath")
    if claim is None:
        return ClaimUse(names.child_name(slug), ROOT, fields.get("readOnly") is True)
    try:
        found = directory(parse_sub_path(sub_path), slug) if sub_path is not None else ROOT
    except (InvalidSpec, AttributeError):
        return None
    return ClaimUse(claim, found, fields.get("readOnly") is True)


def files_use(pod: Unstructured) -> ClaimUse | None:
    """Return the use of a claim by the browser in one of our pods; None if it has no volume of files."""
    volumes = pod["spec"].get("volumes") or ()
    claim = next((volume.get("persistentVolumeClaim") for volume in volumes if volume["name"] == names.FILES_VOLUME), None)
    if claim is None:
        return None
    browsers = (container for container in pod["spec"]["containers"] if container["name"] == names.CONTAINER)
    browser: Unstructured = next(browsers, {})
    mounts: Sequence[Unstructured] = browser.get("volumeMounts") or ()
    sub_path = next((mount.get("subPath") for mount in mounts if mount["name"] == names.FILES_VOLUME), None)
    return ClaimUse(claim["claimName"], directory(sub_path or None, ""), claim.get("readOnly") is True)


def share_of(claim: Unstructured) -> str | None:
    """Return whom the owner of the claim lets use it: the value of its label, `names.SHARE_ONE` or `names.SHARE_DIRECTORIES`.

    None if it lacks the label, or the label has another value.
    """
    value: str | None = (claim["metadata"].get("labels") or {}).get(names.LABEL_SHAREABLE)
    return value if value in (names.SHARE_ONE, names.SHARE_DIRECTORIES) else None


def single_node(claim: Unstructured) -> bool:
    """Whether only one node, or only one pod, can mount the volume of the claim at a time."""
    modes = claim["spec"].get("accessModes") or ()
    return "ReadWriteMany" not in modes and ("ReadWriteOnce" in modes or "ReadWriteOncePod" in modes)


def serves_one(claim: Unstructured) -> bool:
    """Whether the claim may be used by one UserStorage at a time: its label or its access modes say so."""
    share = share_of(claim)
    return share == names.SHARE_ONE or (share == names.SHARE_DIRECTORIES and single_node(claim))


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
