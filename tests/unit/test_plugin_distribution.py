"""The distribution kubectl-userstorage: small, the same on each system, and as krew installs it."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

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


def test_krew_launcher_without_uv_or_pipx_says_what_is_missing() -> None:
    done = subprocess.run(
        ["/bin/sh", str(PACKAGE / "krew/kubectl-userstorage")], env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "needs uv or pipx" in done.stderr


def test_krew_manifest_names_each_launcher_and_system() -> None:
    rendered = re.sub(r"\{\{addURIAndSha .*\}\}", "uri: https://example.org/a.tar.gz", (PACKAGE / "krew.yaml").read_text())
    manifest = yaml.safe_load(rendered)
    assert manifest["metadata"]["name"] == "userstorage"
    for platform in manifest["spec"]["platforms"]:
        assert platform["bin"] in {file["from"] for file in platform["files"]}
        assert (PACKAGE / "krew" / platform["bin"]).exists()
    assert "windows" in rendered
    assert "darwin" in rendered
