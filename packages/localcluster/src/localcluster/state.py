"""The record, on disk, of what one cluster started, so that any later process can find and end it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from localcluster.processes import Process


@dataclass
class State:
    """What a cluster consists of at this moment.

    `ready` is false from the first process until the whole cluster answers: a start that was cut short leaves it so.
    `undo` names what else than processes and files must be undone; its keys are the node profile's own.
    """

    profile: str
    server: str
    processes: dict[str, Process] = field(default_factory=dict)
    undo: dict[str, str] = field(default_factory=dict)
    ready: bool = False

    def write(self, path: Path) -> None:
        """Write the record; a reader sees the old one or the new one, never a half."""
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self), indent=1, default=str))
        unfinished.replace(path)


def read(path: Path) -> State | None:
    """The record at that path, None where there is none."""
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    processes = {
        name: Process(name, tuple(process["command"]), Path(process["log"]), process["pid"], process["started"])
        for name, process in fields.pop("processes").items()
    }
    return State(processes=processes, **fields)
