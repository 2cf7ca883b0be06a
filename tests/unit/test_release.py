"""The version is the same everywhere, and the fixtures of the current version are recorded."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("path", ["Makefile", "deploy/manager/deployment.yaml", "deploy/uninstall/job.yaml"])
def test_image_tag_is_the_project_version(path: str) -> None:
    assert set(re.findall(r"userstorage-operator:(\d[\w.]*)", (ROOT / path).read_text())) == {VERSION}


def test_fixtures_of_this_version_match_the_crds() -> None:
    """Compare the recorded CRDs; `make release-fixtures` writes them."""
    recorded = ROOT / "tests/fixtures/released" / VERSION / "definitions"
    for definition in (ROOT / "deploy/crds").glob("*.yaml"):
        assert (recorded / definition.name).read_text() == definition.read_text()
