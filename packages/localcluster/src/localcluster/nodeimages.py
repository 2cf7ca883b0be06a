"""The container images that a node has from the start, built on this machine under the names of the published images."""

from pathlib import Path

from localcluster import builds, cache, images
from localcluster.images import Image
from localcluster.progress import Report

PAUSE = "localhost/localcluster/pause:1"

DIRECTORIES = "docker.io/library/busybox:1.37.0"
"""The image in which the operator creates directories of claims."""

BUSYBOX = Path("/bin/busybox")
CATATONIT = Path("/usr/bin/catatonit")

SHELL_PROGRAMS = (
    "cat",
    "echo",
    "id",
    "kill",
    "ls",
    "mkdir",
    "ps",
    "rm",
    "sh",
    "sleep",
    "stat",
    "test",
    "timeout",
    "touch",
    "wget",
)
"""The busybox commands in the File Browser image: those that probes and tests need."""


def build_all(report: Report) -> list[Path]:
    """Return the tar file of every image that a node has from the start. Build those that are not in the per-user cache.

    Raises ClusterError if a program in one of the images cannot be built.
    """
    return [archive(image) for image in _images(report)]


def _images(report: Report) -> list[Image]:
    filebrowser = builds.pinned_version("filebrowser", "github.com/filebrowser/filebrowser/v2")
    shell = {f"/bin/{name}": "busybox" for name in SHELL_PROGRAMS}
    return [
        Image(PAUSE, ["/catatonit", "-P"], {"/catatonit": CATATONIT}, user="65535:65535"),
        Image(
            # The original image has busybox too.
            f"docker.io/filebrowser/filebrowser:{filebrowser}",
            ["/bin/filebrowser"],
            {"/bin/filebrowser": builds.build_go(builds.FILEBROWSER, report), "/bin/busybox": BUSYBOX},
            links=shell,
            directories={"/tmp": 0o1777, "/srv": 0o777},  # noqa: S108 (a path in the image)
        ),
        Image(
            DIRECTORIES,
            ["/bin/sh"],
            {"/bin/busybox": BUSYBOX},
            links={f"/bin/{name}": "busybox" for name in ("id", "mkdir", "sh")},
        ),
        Image(
            f"docker.io/sigoden/dufs:v{builds.DUFS_VERSION}",
            ["/bin/dufs"],
            {"/bin/dufs": builds.build_dufs(report)},
            stop_signal="SIGINT",
        ),
    ]


def archive(image: Image) -> Path:
    """Return the path of the image's tar file in the per-user cache. Write the tar file if it is not there yet."""
    sources = [part for path, source in sorted(image.files.items()) for part in (path, source)]

    def write(directory: Path) -> None:
        images.write_archive(image, directory / image.archive_name)

    name = "image-" + image.archive_name.removesuffix(".tar")
    return cache.entry(name, [repr(image), *sources, Path(images.__file__)], write) / image.archive_name
