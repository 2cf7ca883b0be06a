"""The file that records what one cluster started, so that any later process can find and stop the cluster."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localcluster.processes import Process


@dataclass
class State:
    """The processes of a cluster and its other changes to this machine.

    `ready` is true if the cluster has once started completely. `undo` maps each change that is neither a process nor a file to
    what is needed to undo it, for example a sysctl to its old value; only the profile `node` uses it.
    """

    profile: str
    server: str
    processes: dict[str, Process] = field(default_factory=dict)
    undo: dict[str, str] = field(default_factory=dict)
    ready: bool = False

    def write(self, path: Path) -> None:
        """Write this state to the file `path` atomically: a reader gets the old content or the new one."""
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self), indent=1, default=str))
        unfinished.replace(path)


def read(path: Path) -> State | None:
    """Return the state in the file `path`; None if the file does not exist."""
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    processes = {
        name: Process(name, tuple(process["command"]), Path(process["log"]), process["pid"], process["started"])
        for name, process in fields.pop("processes").items()
    }
    return State(processes=processes, **fields)
