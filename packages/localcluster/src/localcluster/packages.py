"""The Debian packages that the profile `node` needs, and how packages are installed."""

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
    """A Debian package and its purpose. If `proof` exists, the package counts as installed.

    `proof` is the absolute path of a file, or the name of a program on PATH.
    """

    name: str
    proof: str
    purpose: str

    def installed(self) -> bool:
        """Whether `proof` exists. It does not matter whether the Debian package or something else has installed it."""
        if self.proof.startswith("/"):
            return Path(self.proof).exists()
        # The path of a user other than root often lacks sbin.
        return shutil.which(self.proof, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin") is not None


PACKAGES = (
    Package("containerd", "containerd", "runs the containers"),
    Package("runc", "runc", "starts one container for containerd"),
    Package("containernetworking-plugins", "/usr/lib/cni/ptp", "gives every pod its network interface"),
    Package("catatonit", "/usr/bin/catatonit", "is the first process of the node and of every pod"),
    # The package busybox has the same program path, but it is linked dynamically and does not run in an image.
    Package("busybox-static", "/usr/share/doc/busybox-static", "gives images a shell"),
    Package("iptables", "iptables", "is what kubelet marks packets with"),
    Package("nftables", "nft", "is how kube-proxy implements Services"),
    Package("conntrack", "conntrack", "lets kube-proxy forget old connections"),
    Package("iproute2", "ip", "creates the network interface of the node"),
    Package("util-linux", "nsenter", "creates and enters the namespaces of the node"),
    Package("mount", "mount", "mounts volumes"),
)


def ensure(report: Report) -> None:
    """Install those of PACKAGES that are missing.

    Raises ClusterError if this process has no root rights, or if apt-get is missing or fails.
    """
    missing = [package for package in PACKAGES if not package.installed()]
    names = [package.name for package in missing]
    if os.geteuid() != 0:
        first = f"; and install first: {' '.join(names)}" if names else ""
        raise ClusterError(f"the profile node needs root: it creates namespaces and a network interface{first}")
    _install(missing, report)


def ensure_package(package: Package, report: Report) -> None:
    """Install a package unless it is installed.

    Raises ClusterError if the package is missing and this process has no root rights, or if apt-get is missing or fails.
    """
    if package.installed():
        return
    if os.geteuid() != 0:
        raise ClusterError(f"{package.proof} is missing, and only root can install it: apt-get install {package.name}")
    _install([package], report)


def _install(missing: Sequence[Package], report: Report) -> None:
    if not missing:
        return
    names = [package.name for package in missing]
    if shutil.which("apt-get") is None:
        raise ClusterError(f"apt-get is missing; install the programs of these Debian packages: {' '.join(names)}")
    for package in missing:
        report(f"to install: {package.name}, which {package.purpose}")
    cache.root().mkdir(parents=True, exist_ok=True)
    with cache.locked(cache.root() / "apt-get.lock"):  # apt-get fails if another one runs
        _apt_get("update")
        # --no-remove: the user decides about packages in conflict.
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
    """Download the Debian package `name` and extract its files into `directory`, without installing it.

    This needs no root rights. Raises ClusterError if apt-get or dpkg-deb is missing or fails.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ClusterError(f"apt-get and dpkg-deb are missing; they download the Debian package {name}")
    _run(["apt-get", "download", name], directory)
    for package in directory.glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(package), str(directory)], directory)
        package.unlink()


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise ClusterError(f"{' '.join(command[:2])} failed: {lines[-1] if lines else 'no output'}")
