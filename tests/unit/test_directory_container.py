"""The init container that creates the directory of a user in a shared claim: its place in the pod, and the script on real files."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from support.builders import desired_of, dufs_class, filebrowser_class, storage_object
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.subpath import directory, parse_sub_path
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.plan.pod_builder import DIRECTORY_IMAGE

UNPRIVILEGED = 65534
SHELLS = [shell for shell in (["/bin/sh"], ["/bin/busybox", "sh"]) if shutil.which(shell[0])]


def container_of(sub_path: str, user: str = "alice") -> Unstructured:
    raw = storage_object(user, storage={"claimName": "homes", "subPath": sub_path})
    [container] = desired_of(raw, dufs_class()).pod["spec"]["initContainers"]
    return dict(container)


def create(root: Path, sub_path: str, shell: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the script of the init container with another root."""
    _, option, script, name, _, *elements = container_of(sub_path)["command"]
    command = [*shell, option, script, name, str(root), *elements]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **options)


def test_directory_is_created_before_the_browser_starts() -> None:
    raw = storage_object(storage={"claimName": "homes", "subPath": "team/${slug}"})
    first, configure = desired_of(raw, filebrowser_class()).pod["spec"]["initContainers"]
    assert (first["name"], first["image"], configure["name"]) == ("directory", DIRECTORY_IMAGE, "configure")
    assert first["command"][-3:] == ["/srv", "team", "alice"]
    assert first["resources"] == configure["resources"], (
        "a ResourceQuota or LimitRange admits all containers of the pod or none"
    )
    assert first["volumeMounts"] == [{"name": "files", "mountPath": "/srv"}]
    own = dufs_class(storage={"directoryImage": "registry.example.org/busybox:1"})
    [container] = desired_of(raw, own).pod["spec"]["initContainers"]
    assert container["image"] == "registry.example.org/busybox:1"
    for storage in ({}, {"claimName": "homes"}):
        assert "initContainers" not in desired_of(storage_object(storage=storage), dufs_class()).pod["spec"]


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_directory_is_created_with_its_mode_and_found_again(tmp_path: Path, shell: list[str]) -> None:
    for _ in range(2):
        done = create(tmp_path, "team/a@b/${slug}", shell)
        assert (done.returncode, done.stderr) == (0, "")
    modes = [path.stat().st_mode & 0o7777 for path in (tmp_path / "team", tmp_path / "team/a@b", tmp_path / "team/a@b/alice")]
    assert modes == [0o771, 0o771, 0o770]
    (tmp_path / "-n").mkdir()
    assert create(tmp_path, "-n/-e", shell).returncode == 0
    assert (tmp_path / "-n/-e").is_dir()


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_directory_is_not_created_through_a_link(tmp_path: Path, shell: list[str]) -> None:
    root, bob = tmp_path / "root", tmp_path / "root/bob"
    bob.mkdir(parents=True)
    for target in ("bob", str(bob), ".", "..", str(tmp_path), "nowhere", "team"):
        link = root / "team"
        link.symlink_to(target)
        for sub_path in ("team", "team/alice"):
            done = create(root, sub_path, shell)
            assert done.returncode == 1, (target, sub_path)
            assert "spec.storage.subPath" in done.stderr
        link.unlink()
    assert not list(bob.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]
    (root / "file").touch()
    assert create(root, "file/alice", shell).returncode == 1


@pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: Path(shell[0]).name)
def test_reason_why_there_is_no_directory_is_reported(shell: list[str]) -> None:
    user = UNPRIVILEGED if os.geteuid() == 0 else os.geteuid()  # root may write everywhere
    with tempfile.TemporaryDirectory() as name:  # other users cannot enter tmp_path
        root = Path(name)
        (root / "file").touch()
        (root / "closed").mkdir(mode=0o700 if os.geteuid() == 0 else 0)
        root.chmod(0o555)
        for sub_path, problem, cause in (
            ("alice", "create", "Permission denied"),
            ("file/alice", "create", "File exists"),
            ("closed/alice", "enter", ""),  # dash does not say why
        ):
            done = create(root, sub_path, shell, user=user)
            assert done.returncode == 1
            [message] = done.stderr.splitlines()
            at = root / sub_path.split("/")[0]
            assert message.startswith(f"spec.storage.subPath: cannot {problem} the directory {at} as uid {user}, gid ")
            assert message.endswith(cause)
        done = create(root / "missing", "alice", shell)
        assert done.stderr.startswith(f"spec.storage.subPath: cannot enter the directory {root / 'missing'} as uid ")


@pytest.mark.parametrize(
    "sub_path", ["", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\\b", "a\nb", "$(HOME)", "${userID}", "a b", "a" * 201, "/".join("abcdefghi")],
)  # fmt: skip
def test_bad_sub_path_is_refused_without_the_crd(sub_path: str) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.storage\.subPath: "):
        UserStorage.parse(storage_object(storage={"claimName": "homes", "subPath": sub_path}))


def test_sub_path_without_claim_name_is_refused_without_the_crd() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.storage\.subPath is only allowed with spec\.storage\.claimName"):
        UserStorage.parse(storage_object(storage={"subPath": "a"}))


def test_slug_of_the_user_takes_the_place_of_its_variable() -> None:
    assert directory(parse_sub_path("users/${slug}-${slug}/v1.0"), "alice") == ("users", "alice-alice", "v1.0")
    assert directory(None, "alice") == ()
