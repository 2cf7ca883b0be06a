"""An image to build on, of Debian packages, for where the Dockerfile's own base cannot be pulled."""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from localcluster import cache
from localcluster.errors import ClusterError
from localcluster.progress import Report

SUITE = "bookworm"
"""The Debian of the Dockerfile's base."""
PACKAGES = ("python3-minimal", "python3-venv", "ca-certificates")
_LEFTOVERS = ("var/cache/apt/archives", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/locale", "usr/share/man")
_DOCKERFILE = 'FROM scratch\nCOPY . /\nCMD ["python3"]\n'


def ensure(buildah: Sequence[str], report: Report) -> str:
    """The image's reference; the image is made unless buildah has it. ClusterError where it cannot be made."""
    reference = f"localhost/userstorage/python:{SUITE}-{cache.digest([*PACKAGES, *_LEFTOVERS, _DOCKERFILE])}"
    known = subprocess.run([*buildah, "inspect", "--type=image", reference], capture_output=True, check=False)
    if known.returncode != 0:
        report(f"making an image of Debian {SUITE} with Python to build on, once, in a minute or two")
        with tempfile.TemporaryDirectory() as directory:
            _make(buildah, reference, Path(directory))
        report("made the image to build on")
    return reference


def _make(buildah: Sequence[str], reference: str, directory: Path) -> None:
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
