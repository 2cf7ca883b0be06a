"""The parts of a pod that the module of a flavor renders. `plan/pod_builder.py` builds the pod from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FILES_MOUNT = "/srv"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A writable directory of the container (emptyDir), which is deleted with the pod."""

    name: str
    mount_path: str
    size_limit: str


@dataclass(frozen=True, slots=True)
class Browser:
    """The parts of a pod that depend on the program that serves the files. Probes are as in the pod API."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Mapping[str, str], ...]
    startup_probe: Mapping[str, Any]
    readiness_probe: Mapping[str, Any]
    """Must read the volume: the programs' health pages succeed even if the volume is gone (docs/semantics.md#readiness)."""
    liveness_probe: Mapping[str, Any]
    """Must not read the volume: a restart does not repair a volume."""
    default_resources: Mapping[str, Any]
    scratch: tuple[Scratch, ...] = ()
    owner_mount: str | None = None
    """A second path at which the files are mounted, if the program finds the owner's files by the owner's name."""
    init_command: tuple[str, ...] = ()
    """A command of the same image for an init container; empty for none."""
    stop_signal: str | None = None
    """The signal that stops the program gracefully, if it is not SIGTERM. Requires a cluster that supports `stopSignal`."""
    end_of_life: str | None = None
    """Why the program gets no security fixes any more; None if it does, or if nothing is known about it."""
