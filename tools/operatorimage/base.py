"""Builds a base image from Debian packages, for machines that cannot pull the base image that the Dockerfile names."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from localcluster import cache
from localcluster.errors import ClusterError
from localcluster.progress import Report

SUITE = "bookworm"
"""The Debian release of the base image in the Dockerfile."""
PACKAGES = ("python3-minimal", "python3-venv", "ca-certificates")
_LEFTOVERS = ("var/cache/apt/archives", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/locale", "usr/share/man")
_DOCKERFILE = 'FROM scratch\nCOPY . /\nCMD ["python3"]\n'


def ensure(buildah: Sequence[str], report: Report) -> str:
    """Return the reference of the base image. Build the image unless buildah has it. Raises ClusterError if that fails.

    `buildah` is the command line to which arguments are added.
    """
    reference = f"localhost/userstorage/python:{SUITE}-{cache.digest([*PACKAGES, *_LEFTOVERS, _DOCKERFILE])}"
    known = subprocess.run([*buildah, "inspect", "--type=image", reference], capture_output=True, check=False)
    if known.returncode != 0:
        report(f"building a base image of Debian {SUITE} with Python; this takes a minute or two, once")
        with tempfile.TemporaryDirectory() as directory:
            _build(buildah, reference, Path(directory))
        report("built the base image")
    return reference


def _build(buildah: Sequence[str], reference: str, directory: Path) -> None:
    root, dockerfile = directory / "root", directory / "Dockerfile"
    _run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)])
    for leftover in _LEFTOVERS:
        shutil.rmtree(root / leftover)
        (root / leftover).mkdir()
    dockerfile.write_text(_DOCKERFILE)
    _run([*buildah, "build", "--isolation=chroot", "--timestamp=0", f"--file={dockerfile}", f"--tag={reference}", str(root)])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()
        raise ClusterError(f"{command[0]} failed: {lines[-1] if lines else 'no output'}")
