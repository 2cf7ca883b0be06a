"""The two programs that can build and push the operator's image: Docker, and buildah, which needs root but no daemon."""

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
"""The file of certificate authorities that this machine trusts. Behind a TLS proxy, a build needs it in the image too."""

BUILDAH_PACKAGE = Package("buildah", "buildah", "builds the operator's image")
DEBOOTSTRAP = Package("debootstrap", "debootstrap", "creates the base image")


@dataclass(frozen=True)
class Engine:
    """A program that builds, saves and pushes images. The fields are the options in which Docker and buildah differ."""

    program: Sequence[str]
    build_options: Sequence[str]
    save_command: Sequence[str]
    plain_http_option: Sequence[str]

    def build(self, reference: str, base_image: str, *options: str) -> None:
        """Build the image `reference` from the project's Dockerfile.

        If `base_image` is empty, the base image is that of the Dockerfile. `options` are further options of the build command,
        such as `--target`. Raises ClusterError if the build fails.
        """
        arguments = [f"--build-arg=BASE_IMAGE={base_image}"] if base_image else []
        self._run("build", *self.build_options, *arguments, f"--tag={reference}", *options, str(ROOT))

    def save(self, reference: str, archive: Path) -> None:
        """Write the image `reference` to the tar file `archive`, which containerd, Docker and kind can load.

        Raises ClusterError if that fails.
        """
        archive.parent.mkdir(parents=True, exist_ok=True)
        archive.unlink(missing_ok=True)  # buildah cannot add an image to an existing archive
        self._run(*(part.format(reference=reference, archive=archive) for part in self.save_command))

    def push(self, reference: str, *, plain_http: bool) -> None:
        """Push an image to the registry in its `reference`. With `plain_http`, that registry has no TLS.

        Raises ClusterError if the push fails.
        """
        self._run("push", *(self.plain_http_option if plain_http else ()), reference)

    def _run(self, *arguments: str) -> None:
        command = [*self.program, *arguments]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        if subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode != 0:
            raise ClusterError(f"{command[0]} {arguments[0]} failed; see its output above")


# Docker has no option for registries without TLS: they are listed in the configuration of its engine.
DOCKER = Engine(["docker"], [], ["save", "--output={archive}", "{reference}"], [])


def _buildah() -> Engine:
    """Return the Engine for buildah. It keeps its images in the per-user cache, apart from the machine's other images."""
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
    """Return Docker if a Docker engine answers, else buildah. Install buildah if it is missing.

    Raises ClusterError if buildah cannot be installed.
    """
    if docker_answers():
        return DOCKER
    packages.ensure_package(BUILDAH_PACKAGE, report)
    return BUILDAH


def debian_base(report: Report) -> str:
    """Return the reference of a base image of Debian with Python, which buildah has. The first call builds the image.

    Raises ClusterError if the image cannot be built.
    """
    packages.ensure_package(DEBOOTSTRAP, report)
    (cache.root() / "buildah").mkdir(parents=True, exist_ok=True)
    with cache.locked(cache.root() / "buildah" / "base.lock"):
        return base.ensure(BUILDAH.program, report)
