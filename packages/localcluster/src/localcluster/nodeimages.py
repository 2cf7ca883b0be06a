"""The container images that a node has from the start, built on this machine under the names of the published images."""

import importlib.metadata
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from localcluster import builds, cache, images, pythonimage
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
    "find",
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
"""The busybox commands in the images that have a shell: those that probes and tests need."""


def _pause(_report: Report) -> Image:
    return Image(PAUSE, ["/catatonit", "-P"], {"/catatonit": CATATONIT}, user="65535:65535")


def _filebrowser(report: Report) -> Image:
    version = builds.pinned_version("filebrowser", "github.com/filebrowser/filebrowser/v2")
    return Image(
        # The original image has busybox too.
        f"docker.io/filebrowser/filebrowser:{version}",
        ["/bin/filebrowser"],
        {"/bin/filebrowser": builds.build_go(builds.FILEBROWSER, report), "/bin/busybox": BUSYBOX},
        links=_SHELL,
        directories={"/tmp": 0o1777, "/srv": 0o777},  # noqa: S108 (a path in the image)
    )


def _dufs(report: Report) -> Image:
    return Image(
        f"docker.io/sigoden/dufs:v{builds.DUFS_VERSION}",
        ["/bin/dufs"],
        {"/bin/dufs": builds.build_dufs(report)},
        stop_signal="SIGINT",
    )


def _directories(_report: Report) -> Image:
    links = {f"/bin/{name}": "busybox" for name in ("id", "mkdir", "sh")}
    return Image(DIRECTORIES, ["/bin/sh"], {"/bin/busybox": BUSYBOX}, links=links)


def _copyparty(_report: Report) -> Image:
    return Image(
        # The original image has Python and busybox of Alpine.
        f"docker.io/copyparty/min:{importlib.metadata.version('copyparty')}",
        ["/usr/bin/python3", "-m", "copyparty"],
        {**pythonimage.files(("copyparty", "jinja2", "markupsafe")), "/bin/busybox": BUSYBOX},
        links={**_SHELL, "/usr/bin/python3": pythonimage.program()},
        directories={"/tmp": 0o1777, "/srv": 0o777},  # noqa: S108 (a path in the image)
    )


_SHELL = {f"/bin/{name}": "busybox" for name in SHELL_PROGRAMS}

BROWSERS: Mapping[str, Callable[[Report], Image]] = {"filebrowser": _filebrowser, "dufs": _dufs, "copyparty": _copyparty}
"""The images of file browsers, by the name of the program."""


def build(browsers: Collection[str], report: Report) -> list[Path]:
    """Return the tar files of the images that a node has from the start: that of pods themselves, and those of `browsers`.

    Images that are not in the per-user cache are built. Raises ClusterError if a program in one of them cannot be built.
    """
    return [archive(image(report)) for image in (_pause, _directories, *(BROWSERS[name] for name in browsers))]


def archive(image: Image) -> Path:
    """Return the path of the image's tar file in the per-user cache. Write the tar file if it is not there yet."""
    sources = [part for path, source in sorted(image.files.items()) for part in (path, source)]

    def write(directory: Path) -> None:
        images.write_archive(image, directory / image.archive_name)

    name = "image-" + image.archive_name.removesuffix(".tar")
    return cache.entry(name, [repr(image), *sources, Path(images.__file__)], write) / image.archive_name
