"""The version is the same in all files, and its objects are kept as fixtures."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from release.artifacts import Image, images
from release.notes import notes

ROOT = Path(__file__).parents[2]
DIGEST = f"sha256:{'0' * 64}"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("path", ["Makefile", "deploy/manager/deployment.yaml", "deploy/uninstall/job.yaml"])
def test_image_tag_is_the_project_version(path: str) -> None:
    assert set(re.findall(r"userstorage-operator:(\d[\w.]*)", (ROOT / path).read_text())) == {VERSION}


def test_chart_has_the_project_version() -> None:
    chart = yaml.safe_load((ROOT / "charts/userstorage-operator/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


@pytest.mark.parametrize("path", ["pyproject.toml", "krew/kubectl-userstorage", "krew/kubectl-userstorage.cmd"])
def test_kubectl_plugin_has_the_project_version(path: str) -> None:
    text = (ROOT / "packages/kubectl-userstorage" / path).read_text()
    assert set(re.findall(r"(?:^version ?= ?\"?|kubectl-userstorage==)(\d[\w.]*)", text, re.MULTILINE)) == {VERSION}


def test_every_package_and_the_image_name_the_licence_of_the_repository() -> None:
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    projects = [path for path in ROOT.glob("**/pyproject.toml") if ".venv" not in path.parts and ".tools" not in path.parts]
    assert len(projects) > 3
    assert {path: tomllib.loads(path.read_text())["project"]["license"] for path in projects} == dict.fromkeys(
        projects, "Apache-2.0"
    )
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "org.opencontainers.image.licenses=Apache-2.0" in dockerfile
    assert re.search(r"^COPY .*\bLICENSE\b", dockerfile, re.MULTILINE)
    assert "!LICENSE" in (ROOT / ".dockerignore").read_text()


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("registry.example.org/operator:1.2.3", ("registry.example.org/operator", "1.2.3", "")),
        (f"localhost:5000/operator:1.2.3@{DIGEST}", ("localhost:5000/operator", "1.2.3", DIGEST)),
        (f"localhost:5000/operator@{DIGEST}", ("localhost:5000/operator", VERSION, DIGEST)),
    ],
)
def test_image_reference_is_taken_apart(reference: str, parts: tuple[str, str, str]) -> None:
    assert Image.parse(reference) == Image(*parts)


@pytest.mark.parametrize("reference", ["operator", "localhost:5000/operator", "operator@sha256:12"])
def test_image_without_tag_or_digest_is_refused(reference: str) -> None:
    with pytest.raises(ValueError, match="needs a tag or a digest"):
        Image.parse(reference)


def test_list_of_images_has_every_image_that_the_operator_may_run() -> None:
    listed = images(Image.parse("registry.example.org/operator:1"))
    assert listed[0] == "registry.example.org/operator:1"
    policies = yaml.safe_load_all((ROOT / "deploy/admission/class-names.yaml").read_text())
    expressions = [entry["expression"] for raw in policies for entry in raw.get("spec", {}).get("variables", ())]
    allowed = {image for text in expressions for image in re.findall(r"'(docker\.io/[^']+)'", text)}
    assert allowed
    assert set(listed[1:]) == allowed


def test_notes_of_this_version_are_not_empty() -> None:
    assert "UserStorage" in notes(VERSION)


def test_fixtures_of_this_version_have_the_current_crds() -> None:
    """Fail if the CRDs changed after `make release-fixtures`, which writes the fixtures."""
    fixtures = ROOT / "tests/fixtures/released" / VERSION / "definitions"
    for crd in (ROOT / "deploy/crds").glob("*.yaml"):
        assert (fixtures / crd.name).read_text() == crd.read_text()
