"""Images built from files: the layout that importers expect, and the same bytes from the same files."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from localcluster.images import Image, write_archive

REFERENCE = "docker.io/example/tool:v1"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    program = tmp_path / "program"
    program.write_text("#!program")
    return Image(
        REFERENCE,
        ["/bin/tool"],
        {"/bin/tool": program},
        links={"/bin/sh": "tool"},
        directories={"/scratch": 0o1777},
        user="1000:1000",
        stop_signal="SIGINT",
    )


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: _content(tar, member) for member in tar.getmembers()}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None
    return stream.read()


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    content = files[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
    assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    assert len(content) == descriptor["size"]
    return content


def test_index_refers_to_manifest_config_and_layer(image: Image, tmp_path: Path) -> None:
    write_archive(image, tmp_path / "image.tar")
    files = blobs(tmp_path / "image.tar")
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    pointer = json.loads(files["index.json"])["manifests"][0]
    assert pointer["annotations"]["io.containerd.image.name"] == REFERENCE
    manifest = json.loads(blob(files, pointer))
    config = json.loads(blob(files, manifest["config"]))
    assert config["config"]["Entrypoint"] == ["/bin/tool"]
    assert config["config"]["StopSignal"] == "SIGINT"
    assert config["config"]["User"] == "1000:1000"
    assert "Cmd" not in config["config"]
    layer = blob(files, manifest["layers"][0])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]


def test_layer_has_parents_before_children_and_the_given_modes(image: Image, tmp_path: Path) -> None:
    write_archive(image, tmp_path / "image.tar")
    files = blobs(tmp_path / "image.tar")
    manifest = json.loads(blob(files, json.loads(files["index.json"])["manifests"][0]))
    with tarfile.open(fileobj=io.BytesIO(blob(files, manifest["layers"][0]))) as layer:
        members = {member.name: member for member in layer.getmembers()}
        assert list(members) == ["bin", "scratch", "bin/tool", "bin/sh"]
    assert members["bin/tool"].mode == 0o755
    assert members["scratch"].mode == 0o1777
    assert members["bin/sh"].linkname == "tool"
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}


def test_same_files_give_the_same_bytes(image: Image, tmp_path: Path) -> None:
    write_archive(image, tmp_path / "one.tar")
    os.utime(image.files["/bin/tool"], (1, 1))
    write_archive(image, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_changed_program_gives_another_image(image: Image, tmp_path: Path) -> None:
    write_archive(image, tmp_path / "one.tar")
    image.files["/bin/tool"].write_text("#!changed")
    write_archive(image, tmp_path / "two.tar")
    assert blobs(tmp_path / "one.tar")["index.json"] != blobs(tmp_path / "two.tar")["index.json"]
