"""Usage of volumes as reported by kubelets, and which changes of it are worth a status update."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from userstorage_operator.api.unstructured import Unstructured

_STEP = 1.0
"""Percentage points. A smaller change does not change the status: active users would cause a write after every measurement."""
_MEBI = 1 << 20
_LIMIT = 1 << 63
NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True)
class VolumeUse:
    """Used bytes of a volume, and bytes that an unprivileged process can still write."""

    used: int
    available: int

    @property
    def ratio(self) -> float:
        """Used share as in `df`: blocks that the file system reserves for root count as neither used nor available."""
        return self.used / (self.used + self.available)


@dataclass(frozen=True, slots=True)
class MeasuredVolume:
    """The measured usage of one volume. It exists only if the operator queries kubelets (`--volume-stats`)."""

    use: VolumeUse | None
    """None if the usage is currently unknown."""


@dataclass(frozen=True, slots=True)
class MountedVolume:
    """A volume of a pod as reported by its kubelet."""

    pod_uid: str
    namespace: str
    claim: str
    use: VolumeUse


def parse_summary(summary: Unstructured) -> Iterator[MountedVolume]:
    """Yield each volume with a claim in a kubelet's response to `/stats/summary`, unless the kubelet has not measured it yet.

    Raises KeyError, TypeError, ValueError or AttributeError if `summary` is not such a response.
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
        raise ValueError("usedBytes and availableBytes are not numbers of bytes")
    return VolumeUse(used, available)


def volume_status(previous: Unstructured, claim: str, use: VolumeUse | None) -> Unstructured:
    """Return the fields `used` and `usedPercent` for `status.storage` of `claim`; `previous` is the current `status.storage`.

    If the usage is unknown (None), the previous values are kept: usage is only measured while a pod mounts the volume.
    """
    known = previous.get("usedPercent") if previous.get("claimName") == claim else None
    if known is not None and (use is None or abs(use.ratio * 100 - known) < _STEP):
        return {field: previous[field] for field in ("used", "usedPercent") if field in previous}
    if use is None:
        return {}
    return {"used": f"{-(-use.used // _MEBI)}Mi", "usedPercent": int(use.ratio * 100)}
