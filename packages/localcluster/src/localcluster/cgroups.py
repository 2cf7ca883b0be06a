"""The control group under which one node keeps those of its pods, in version 1 and version 2 of the interface."""

import time
from pathlib import Path

from localcluster.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")

CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
"""What kubelet wants to account for and limit, where this machine has it."""


def is_unified(root: Path = ROOT) -> bool:
    """Whether this machine has control groups of version 2."""
    return (root / "cgroup.controllers").exists()


def create(name: str, root: Path = ROOT) -> None:
    """Make the group, in every hierarchy there is. ClusterError where the kernel refuses."""
    try:
        if is_unified(root):
            available = (root / "cgroup.controllers").read_text().split()
            wanted = " ".join(f"+{controller}" for controller in CONTROLLERS if controller in available)
            (root / "cgroup.subtree_control").write_text(wanted)
            (root / name).mkdir(exist_ok=True)
            (root / name / "cgroup.subtree_control").write_text(wanted)
        else:
            for hierarchy in _hierarchies(root):
                (hierarchy / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ClusterError(f"no control group can be made on this machine: {error}") from error


def remove(name: str, root: Path = ROOT) -> None:
    """Remove the group with all below it. ClusterError where processes are still in it after 30 s."""
    deadline = time.monotonic() + 30
    while True:
        left = [group for base in (root, *_hierarchies(root)) if (group := base / name).is_dir()]
        for group in left:
            _remove_tree(group)
        left = [group for group in left if group.is_dir()]
        if not left:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"the control group {left[0]} is still in use")
        time.sleep(0.1)


def _remove_tree(group: Path) -> None:
    """Remove a group and those below it, as far as they are empty. The files in them are the kernel's and go along."""
    for child in group.iterdir():
        if child.is_dir():
            _remove_tree(child)
    try:
        group.rmdir()
    except OSError:
        return  # a process is still ending


def _hierarchies(root: Path) -> list[Path]:
    """The mounted hierarchies of version 1; links are other names of the same."""
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").exists()]
