"""One version, wherever it is written; and what it leaves in a cluster is kept before there is a next one."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("path", ["Makefile", "deploy/manager/deployment.yaml", "deploy/uninstall/job.yaml"])
def test_the_image_has_the_version_of_the_project(path: str) -> None:
    assert set(re.findall(r"userstorage-operator:(\d[\w.]*)", (ROOT / path).read_text())) == {VERSION}


def test_the_fixtures_of_this_version_are_there_and_of_this_api() -> None:
    """`make release-fixtures` writes them."""
    kept = ROOT / "tests/fixtures/released" / VERSION / "definitions"
    for definition in (ROOT / "deploy/crds").glob("*.yaml"):
        assert (kept / definition.name).read_text() == definition.read_text()
