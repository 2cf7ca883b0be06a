"""The version is the same in all files, and its objects are kept as fixtures."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("path", ["Makefile", "deploy/manager/deployment.yaml", "deploy/uninstall/job.yaml"])
def test_image_tag_is_the_project_version(path: str) -> None:
    assert set(re.findall(r"userstorage-operator:(\d[\w.]*)", (ROOT / path).read_text())) == {VERSION}


def test_fixtures_of_this_version_have_the_current_crds() -> None:
    """Fail if the CRDs changed after `make release-fixtures`, which writes the fixtures."""
    fixtures = ROOT / "tests/fixtures/released" / VERSION / "definitions"
    for crd in (ROOT / "deploy/crds").glob("*.yaml"):
        assert (fixtures / crd.name).read_text() == crd.read_text()
