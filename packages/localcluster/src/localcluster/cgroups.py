"""The control group of one node, in cgroup version 1 and version 2. The control groups of the node's pods are below it."""

import time
from pathlib import Path

from localcluster.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")

CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
"""The controllers that kubelet uses for accounting and limits. This machine may lack some of them."""


def is_unified(root: Path = ROOT) -> bool:
    """Whether this machine has cgroup version 2."""
    return (root / "cgroup.controllers").exists()


def create(name: str, root: Path = ROOT) -> None:
    """Create the control group in every hierarchy. Raises ClusterError if the kernel refuses."""
    try:
        if is_unified(root):
            available = (root / "cgroup.controllers").read_text().split()
            enabled = " ".join(f"+{controller}" for controller in CONTROLLERS if controller in available)
            (root / "cgroup.subtree_control").write_text(enabled)
            (root / name).mkdir(exist_ok=True)
            (root / name / "cgroup.subtree_control").write_text(enabled)
        else:
            for hierarchy in _hierarchies(root):
                (hierarchy / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ClusterError(f"the kernel refuses to create a control group: {error}") from error


def remove(name: str, root: Path = ROOT) -> None:
    """Remove the control group and all below it. Raises ClusterError if processes are still in it after 30 s."""
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
    """Remove a group and those below it if they are empty. Their files belong to the kernel and need no deletion."""
    for child in group.iterdir():
        if child.is_dir():
            _remove_tree(child)
    try:
        group.rmdir()
    except OSError:
        return  # a process in it is still terminating


def _hierarchies(root: Path) -> list[Path]:
    """Return the mounted hierarchies of cgroup version 1. Symbolic links are left out: they are second names of the same
    hierarchies.
    """
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").exists()]
