"""The jobs and make targets of the pipeline."""

import re
from pathlib import Path
from typing import Any

import yaml

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github/workflows").glob("*.yaml"))


def jobs() -> list[dict[str, Any]]:
    return [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]


def targets() -> set[str]:
    """Return the make targets of all steps, including those of a matrix."""
    found = set[str]()
    for job in jobs():
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job["steps"]:
            for named in re.findall(r"^\s*make (\S+|\$\{\{ matrix\.target \}\})", step.get("run", ""), re.MULTILINE):
                found |= set(matrix["target"]) if named.startswith("$") else {named}
    return found
