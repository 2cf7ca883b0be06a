"""The commit and the machine that a result of the tests names."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path


def commit() -> str:
    """Return the short hash of the commit, with ` with changes` if a file of the working tree differs from it or is not in it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout.strip()
    return head + (" with changes" if changed else "")


def machine() -> str:
    """Return what a result depends on beside the commit."""
    return f"{os.cpu_count()} processors, {platform.system()} {platform.release()}, Python {platform.python_version()}"


class Origin:
    """Where a table comes from. Created at the start of its run, as the commit has to be read before the table changes the tree."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._started = datetime.now(UTC)
        self._commit = commit()

    def __str__(self) -> str:
        """Return two lines: command, start, time until now and commit; the machine."""
        minutes = (datetime.now(UTC) - self._started).total_seconds() / 60
        return f"`{self._command}`, {self._started:%Y-%m-%d %H:%M} UTC, {minutes:.0f} min, commit {self._commit}.\n{machine()}."
