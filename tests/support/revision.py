"""The commit and the machine that a result of the tests names."""

import os
import platform
import subprocess
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
