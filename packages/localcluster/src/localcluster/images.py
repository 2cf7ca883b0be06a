"""Builds container images from files of this machine, because no registry can be reached.

An image is written as a tar file in OCI layout, with one layer. The same files give the same bytes: the tar file contains no
times or file owners of this machine.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

_MEDIA = "application/vnd.oci.image"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True)
class Image:
    """An image to build.

    The keys of `files`, `links` and `directories` are paths in the image. Their values are files of this machine, the targets
    of symbolic links, and the modes of directories. Parent directories are created.
    """

    reference: str
    entrypoint: Sequence[str]
    files: Mapping[str, Path]
    command: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, int] = field(default_factory=dict)
    user: str = ""
    stop_signal: str = ""

    @property
    def archive_name(self) -> str:
        """The name of the tar file to write the image to."""
        return self.reference.rpartition("/")[2].replace(":", "-") + ".tar"


def write_archive(image: Image, path: Path) -> None:
    """Write the image to `path`, as a tar file that `ctr images import` can read. Raises OSError if a file is missing."""
    layer = _layer(image)
    config = _encode(_config(image, layer))
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": f"{_MEDIA}.manifest.v1+json",
            "config": _descriptor(f"{_MEDIA}.config.v1+json", config),
            # Uncompressed: it is read once, on this machine.
            "layers": [_descriptor(f"{_MEDIA}.layer.v1.tar", layer)],
        }
    )
    names = {"io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": image.reference}
    pointer = _descriptor(f"{_MEDIA}.manifest.v1+json", manifest)
    index = _encode({"schemaVersion": 2, "manifests": [{**pointer, "platform": _platform(), "annotations": names}]})
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", _encode({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", index)
        for blob in (config, manifest, layer):
            _add(archive, f"blobs/sha256/{_sha256(blob)}", blob)


def _layer(image: Image) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
        for name, mode in sorted(_directories(image).items()):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            layer.addfile(directory)
        for name, source in sorted(image.files.items()):
            _add(layer, name.strip("/"), source.read_bytes(), mode=0o755)
        for name, target in sorted(image.links.items()):
            link = tarfile.TarInfo(name.strip("/"))
            link.type, link.linkname, link.mode = tarfile.SYMTYPE, target, 0o777
            layer.addfile(link)
    return buffer.getvalue()


def _directories(image: Image) -> dict[str, int]:
    """Return the mode of each directory in the image, by path: that in `image.directories`, else 0755."""
    parents: dict[str, int] = {}
    for name in (*image.files, *image.links, *image.directories):
        for parent in PurePosixPath(name.strip("/")).parents:
            if str(parent) != ".":
                parents[str(parent)] = 0o755
    return parents | {name.strip("/"): mode for name, mode in image.directories.items()}


def _config(image: Image, layer: bytes) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Entrypoint": list(image.entrypoint),
        "Cmd": list(image.command),
        "User": image.user,
        "StopSignal": image.stop_signal,
    }
    return {
        **_platform(),
        "created": _EPOCH,
        "config": {name: value for name, value in settings.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
        "history": [{"created": _EPOCH, "created_by": "localcluster"}],
    }


def _platform() -> dict[str, str]:
    machine = platform.machine()
    return {"architecture": _ARCHITECTURES.get(machine, machine), "os": "linux"}


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{_sha256(content)}", "size": len(content)}


def _add(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _encode(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
