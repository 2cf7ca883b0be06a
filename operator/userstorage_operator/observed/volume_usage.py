"""How full volumes are, as kubelets tell it, and how much of that is worth writing down."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from userstorage_operator.api.unstructured import Unstructured

_STEP = 1.0
"""Percent: a smaller change than that is not written into a status, or users at work would cause a write each time."""
_MEBI = 1 << 20
_LIMIT = 1 << 63
NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """Bytes that are taken, and bytes that are left to a process without privileges."""

    used: int
    available: int

    @property
    def ratio(self) -> float:
        """As `df` has it: what a file system keeps for root is neither used nor to be had."""
        return self.used / (self.used + self.available)


@dataclass(frozen=True, slots=True)
class MeasuredVolume:
    """What kubelets, which are asked for it, say of one volume."""

    use: VolumeUse | None
    """None where that is not known at the moment."""


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """A volume of a pod, as its kubelet tells of it."""

    pod_uid: str
    namespace: str
    claim: str
    use: VolumeUse


def parse_summary(summary: Unstructured) -> Iterator[MountedVolume]:
    """The volumes with a claim in an answer to `/stats/summary` of which a kubelet knows the size already. Raises KeyError,
    TypeError, ValueError or AttributeError for what is no such answer.
    """
    for pod in summary["pods"]:
        for volume in pod.get("volume") or ():
            if (claim := volume.get("pvcRef")) and (use := _use(volume)) is not None:
                yield MountedVolume(pod["podRef"]["uid"], claim["namespace"], claim["name"], use)


def _use(volume: Unstructured) -> VolumeUse | None:
    used: Any = volume.get("usedBytes")
    available: Any = volume.get("availableBytes")
    if not used and not available:
        return None
    if not 0 <= used < _LIMIT or not 0 <= available < _LIMIT or not isinstance(used + available, int):
        raise ValueError("usedBytes and availableBytes are no numbers of bytes")
    return VolumeUse(used, available)


def volume_status(previous: Unstructured, claim: str, use: VolumeUse | None) -> Unstructured:
    """The part of `status.storage` about the use of `claim`, after the `previous` one. What is not known now (None) has most
    likely not changed since it was: a volume without a pod fills no further.
    """
    known = previous.get("usedPercent") if previous.get("claimName") == claim else None
    if known is not None and (use is None or abs(use.ratio * 100 - known) < _STEP):
        return {field: previous[field] for field in ("used", "usedPercent") if field in previous}
    if use is None:
        return {}
    return {"used": f"{-(-use.used // _MEBI)}Mi", "usedPercent": int(use.ratio * 100)}
