"""The Debian packages that real containers need, and their installation."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import cache
from localcluster.errors import ClusterError
from localcluster.progress import Report


@dataclass(frozen=True)
class Package:
    """A Debian package, a file that is there once it is installed (or a program in the path), and what it is for."""

    name: str
    proof: str
    purpose: str

    def installed(self) -> bool:
        """Whether its file or program is there, wherever it came from."""
        if self.proof.startswith("/"):
            return Path(self.proof).exists()
        # Who is not root often has no sbin in the path.
        return shutil.which(self.proof, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin") is not None


PACKAGES = (
    Package("containerd", "containerd", "runs the containers"),
    Package("runc", "runc", "starts one container for containerd"),
    Package("containernetworking-plugins", "/usr/lib/cni/ptp", "gives every pod its network interface"),
    Package("catatonit", "/usr/bin/catatonit", "is the first process of the node and of every pod"),
    # Its program has the path of the package busybox too, which is linked dynamically and of no use in an image.
    Package("busybox-static", "/usr/share/doc/busybox-static", "gives images a shell"),
    Package("iptables", "iptables", "is what kubelet marks packets with"),
    Package("nftables", "nft", "is how kube-proxy makes Services work"),
    Package("conntrack", "conntrack", "lets kube-proxy forget old connections"),
    Package("iproute2", "ip", "makes the network interface of the node"),
    Package("util-linux", "nsenter", "makes the namespaces of the node and enters them"),
    Package("mount", "mount", "mounts volumes"),
)


def ensure(report: Report) -> None:
    """Install what containers need and is missing. ClusterError without root rights, without apt-get, or where apt-get
    fails.
    """
    missing = [package for package in PACKAGES if not package.installed()]
    names = [package.name for package in missing]
    if os.geteuid() != 0:
        first = f"; and install first: {' '.join(names)}" if names else ""
        raise ClusterError(f"the profile node needs root: it makes namespaces and a network interface{first}")
    _install(missing, report)


def ensure_package(package: Package, report: Report) -> None:
    """Install it unless it is there. ClusterError as for `ensure`."""
    if package.installed():
        return
    if os.geteuid() != 0:
        raise ClusterError(f"{package.proof} is not here, and only root can install it: apt-get install {package.name}")
    _install([package], report)


def _install(missing: Sequence[Package], report: Report) -> None:
    if not missing:
        return
    names = [package.name for package in missing]
    if shutil.which("apt-get") is None:
        raise ClusterError(f"there is no apt-get here; install what these Debian packages hold: {' '.join(names)}")
    for package in missing:
        report(f"to install: {package.name}, which {package.purpose}")
    cache.root().mkdir(parents=True, exist_ok=True)
    with cache.locked(cache.root() / "apt-get.lock"):  # apt-get does not wait for another one
        _apt_get("update")
        # --no-remove: whoever has a conflicting package decides about it, not we.
        _apt_get("install", "--yes", "--no-install-recommends", "--no-remove", *names)
    report(f"installed {len(names)} Debian packages")


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(f"apt-get {arguments[0]} failed: {lines[-1] if lines else 'no output'}")


def unpack(name: str, directory: Path) -> None:
    """Fetch a Debian package and put its files below the directory, which takes no root rights and starts no service.

    ClusterError without apt-get and dpkg-deb, or where the package cannot be had.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ClusterError(f"there is no apt-get and dpkg-deb here to fetch the Debian package {name}")
    _run(["apt-get", "download", name], directory)
    for package in directory.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(directory)], directory)
        package.unlink()


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(f"{' '.join(command[:2])} failed: {lines[-1] if lines else 'no output'}")
