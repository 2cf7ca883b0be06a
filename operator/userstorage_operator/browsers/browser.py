"""What a flavor's driver hands to the pod builder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FILES_MOUNT = "/srv"
FILES_VOLUME = "files"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A writable directory of the container that ends with the pod."""

    name: str
    mount_path: str
    size_limit: str


@dataclass(frozen=True, slots=True)
class Browser:
    """The parts of a pod that depend on the program that serves the files. Probes as in the pod API."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[Mapping[str, str], ...]
    startup_probe: Mapping[str, Any]
    readiness_probe: Mapping[str, Any]
    """Must read the volume: health pages answer 200 even if the directory is gone (docs/semantics.md#readiness)."""
    liveness_probe: Mapping[str, Any]
    """Must not see the volume: a restart does not mend a volume."""
    default_resources: Mapping[str, Any]
    scratch: tuple[Scratch, ...] = ()
    init_command: tuple[str, ...] = ()
    """A command of the same image that runs to its end first; empty for none."""
    stop_signal: str | None = None
    """For a program that ends gracefully on something other than SIGTERM (where the cluster has stopSignal)."""
