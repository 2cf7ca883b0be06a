"""What builds and pushes images: Docker, or buildah, which needs no engine and no privileges beyond root's."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster import cache, packages
from localcluster.errors import ClusterError
from localcluster.kind import docker_answers
from localcluster.packages import Package
from localcluster.progress import Report
from operatorimage import base

ROOT = Path(__file__).parents[2]
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Whom this machine trusts. Behind a proxy that is more than an image knows of."""

BUILDAH_PACKAGE = Package("buildah", "buildah", "builds the operator's image")
DEBOOTSTRAP = Package("debootstrap", "debootstrap", "makes an image to build the operator's on")


@dataclass(frozen=True)
class Engine:
    """One way to make images. The last words of `build` are those of the Dockerfile's own options."""

    program: Sequence[str]
    build_options: Sequence[str]
    save_command: Sequence[str]
    plain_http_option: Sequence[str]

    def build(self, reference: str, base_image: str, *options: str) -> None:
        """Build the Dockerfile, to its end unless the options say otherwise. ClusterError where that fails."""
        arguments = [f"--build-arg=BASE_IMAGE={base_image}"] if base_image else []
        self._run("build", *self.build_options, *arguments, f"--tag={reference}", *options, str(ROOT))

    def save(self, reference: str, archive: Path) -> None:
        """Write an image as a tar file that containerd, Docker and kind take. ClusterError where that fails."""
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.unlink(missing_ok=True)  # buildah adds no image to an archive
        self._run(*(part.format(reference=reference, archive=archive) for part in self.save_command))

    def push(self, reference: str, *, plain_http: bool) -> None:
        """Push an image to the registry that its reference names. ClusterError where that fails."""
        self._run("push", *(self.plain_http_option if plain_http else ()), reference)

    def _run(self, *arguments: str) -> None:
        command = [*self.program, *arguments]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise ClusterError(f"{' '.join(command[:1])} {arguments[0]} failed; its reason is above")


# Docker's engine is told in its own configuration which registries speak no TLS.
DOCKER = Engine(["docker"], [], ["save", "--output={archive}", "{reference}"], [])


def _buildah() -> Engine:
    """Buildah with images of its own in the per-user cache: nothing of this machine's other images is touched."""
    store = cache.root() / "buildah"
    trusted = [f"--volume={AUTHORITIES}:{AUTHORITIES}:ro"] if AUTHORITIES.exists() else []
    return Engine(
        ["buildah", f"--root={store / 'images'}", f"--runroot={store / 'run'}"],
        ["--isolation=chroot", "--layers", "--timestamp=0", *trusted],
        ["push", "{reference}", "docker-archive:{archive}:{reference}"],
        ["--tls-verify=false"],
    )


BUILDAH = _buildah()


def choose(report: Report) -> Engine:
    """Docker where its engine answers, else buildah, installed where it is not. ClusterError where that cannot be."""
    if docker_answers():
        return DOCKER
    packages.ensure_package(BUILDAH_PACKAGE, report)
    return BUILDAH


def stand_in(report: Report) -> str:
    """The reference of an image for buildah to build on where none can be pulled, made on the first call: Debian with its
    Python. ClusterError where it cannot be made.
    """
    packages.ensure_package(DEBOOTSTRAP, report)
    (cache.root() / "buildah").mkdir(parents=True, exist_ok=True)
    with cache.locked(cache.root() / "buildah" / "base.lock"):
        return base.ensure(BUILDAH.program, report)
