"""The distribution kubectl-userstorage: small, the same on each system, and as krew installs it."""

import hashlib
import io
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import krew

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "packages/kubectl-userstorage"
SERVER_ONLY = {"aiohttp", "hiredis", "kopf", "kubernetes", "orjson", "redis", "userstorage-operator", "uvloop"}
SYSTEMS = {"Linux": "manylinux", "macOS": "macosx", "Windows": "win_amd64"}


@pytest.fixture(scope="module")
def needed() -> dict[str, Any]:
    """Name -> entry of the lock file, of everything that an installation has."""
    packages = {entry["name"]: entry for entry in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    found: dict[str, Any] = {}
    waiting = ["kubectl-userstorage"]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = packages[name]
            waiting += [dependency["name"] for dependency in packages[name].get("dependencies", ())]
    return found


def test_installation_has_nothing_that_only_a_server_needs(needed: dict[str, Any]) -> None:
    assert {"click", "rich", "kr8s"} <= set(needed)
    assert set(needed) & SERVER_ONLY == set()


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_dependency_has_a_wheel(needed: dict[str, Any], system: str) -> None:
    for name, entry in needed.items():
        wheels = [wheel["url"].rpartition("/")[2] for wheel in entry.get("wheels", ())]
        is_there = any(wheel.endswith("-any.whl") or SYSTEMS[system] in wheel for wheel in wheels)
        assert is_there or name == "kubectl-userstorage", name


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive that krew installs, as it unpacks it."""
    directory = tmp_path_factory.mktemp("krew")
    with tarfile.open(fileobj=io.BytesIO(krew.archive())) as archive:
        archive.extractall(directory, filter="data")
    return directory


def test_krew_manifest_has_address_and_digest_for_each_system(unpacked: Path) -> None:
    manifest = yaml.safe_load(krew.manifest("1.2.3", "owner/name", krew.archive()))
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("Plugin", "userstorage")
    spec = manifest["spec"]
    assert (spec["version"], spec["homepage"]) == ("v1.2.3", "https://github.com/owner/name")
    systems = set()
    for platform in spec["platforms"]:
        assert platform["uri"] == "https://github.com/owner/name/releases/download/v1.2.3/kubectl-userstorage-krew.tar.gz"
        assert platform["sha256"] == hashlib.sha256(krew.archive()).hexdigest()
        assert {file["from"] for file in platform["files"]} == {platform["bin"], "LICENSE"}
        assert all((unpacked / file["from"]).is_file() for file in platform["files"])
        selector = platform["selector"]
        systems |= (
            {selector["matchLabels"]["os"]} if "matchLabels" in selector else set(selector["matchExpressions"][0]["values"])
        )
    assert systems == {"linux", "darwin", "windows"}


def test_archive_of_krew_is_always_the_same_and_its_launcher_runs(unpacked: Path) -> None:
    assert krew.archive() == krew.archive()
    assert {path.name for path in unpacked.iterdir()} == {"LICENSE", "kubectl-userstorage", "kubectl-userstorage.cmd"}
    done = subprocess.run([unpacked / "kubectl-userstorage"], env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "needs uv or pipx" in done.stderr
