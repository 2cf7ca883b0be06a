"""Creates and removes the control group of one node, in cgroup version 1 and version 2.

The kubelet creates the control groups of the node's pods below the control group of the node.
"""

import time
from pathlib import Path

from localcluster.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")

CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
"""The cgroup controllers that kubelet uses for accounting and limits. The kernel of this machine may lack some of them."""


def is_unified(root: Path = ROOT) -> bool:
    """Whether this machine has cgroup version 2, not version 1."""
    return (root / "cgroup.controllers").exists()


def create(name: str, root: Path = ROOT) -> None:
    """Create the control group `name`: in every hierarchy of cgroup version 1, or in the only one of version 2.

    Raises ClusterError if the kernel refuses to create it.
    """
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
    """Remove the control group `name` and all control groups below it. Raises ClusterError if it has processes after 30 s."""
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
    """Remove a control group and those below it, except for those that still have processes."""
    for child in group.iterdir():
        if child.is_dir():
            _remove_tree(child)
    try:
        group.rmdir()
    except OSError:
        return  # a process in it is still terminating


def _hierarchies(root: Path) -> list[Path]:
    """Return the directories of the mounted hierarchies of cgroup version 1, without symbolic links to them."""
    return [path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and (path / "cgroup.procs").exists()]
