"""The pipeline runs targets of the Makefile, with pinned actions that the dependency bot updates."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from support.workflows import WORKFLOWS, targets

ROOT = Path(__file__).parents[2]
DEPENDABOT = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]


SIGNING = {"id-token": "write", "attestations": "write"}
GRANTED = {
    "ci.yaml": {"deploy": {"contents": "read", "packages": "write"}},
    "release.yaml": {
        "image": {"packages": "write", **SIGNING},
        "chart": {"packages": "write"},
        "plugin": {"id-token": "write"},
        "release": {"contents": "write", **SIGNING},
    },
}
"""The permissions of the jobs that have more than `contents: read`."""


def test_ci_pipeline_runs_all_make_targets() -> None:
    assert targets() >= {"lint", "verify", "docs", "manifests", "coverage", "image", "test-e2e", "deploy"}


@pytest.mark.parametrize("target", sorted(targets()))
def test_each_step_of_the_ci_pipeline_is_a_listed_make_target(target: str) -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert target in [line.split()[0] for line in listed.splitlines()]
    planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_permissions_minimal(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["group"]
    granted = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert granted == GRANTED[path.name]


def test_release_is_made_from_a_tag_of_the_project_version() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())
    assert workflow[True] == {"push": {"tags": ["v*.*.*"]}}  # YAML 1.1 reads `on` as a boolean
    assert targets() >= {"release-plan", "release-image", "release-reference", "release-artifacts", "release-plugin"}


def test_jobs_that_publish_wait_for_a_reviewer_and_run_nothing_of_the_checkout() -> None:
    """Give a package of the toolbox that was taken over no login and no right to sign."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())["jobs"]
    assert {name for name, job in jobs.items() if "permissions" not in job} == {"build"}
    assert not [step for step in jobs["build"]["steps"] if "login" in step.get("uses", "") or "secrets." in str(step)]
    for name in GRANTED["release.yaml"]:
        assert jobs[name]["environment"] == "release"
        assert "build" in [jobs[name]["needs"], *jobs[name]["needs"]]
        used = {step["uses"].partition("@")[0] for step in jobs[name]["steps"] if "uses" in step}
        assert used <= {
            "actions/attest-build-provenance",
            "actions/attest-sbom",
            "actions/download-artifact",
            "docker/login-action",
            "pypa/gh-action-pypi-publish",
            "sigstore/cosign-installer",
        }
        commands = {line.split()[0] for step in jobs[name]["steps"] for line in step.get("run", "").splitlines()}
        assert commands <= {"skopeo", "cosign", "helm", "gh"}


def updated_directories(ecosystem: str) -> set[Path]:
    """Return the directories that the dependency bot updates."""
    entries = [entry for entry in DEPENDABOT if entry["package-ecosystem"] == ecosystem]
    directories = itertools.chain.from_iterable(entry.get("directories", [entry.get("directory")]) for entry in entries)
    return {found for named in directories for found in (ROOT.glob(named[1:]) if named != "/" else [ROOT])}


@pytest.mark.parametrize(
    ("ecosystem", "file"), [("uv", "uv.lock"), ("gomod", "go.mod"), ("docker", "Dockerfile"), ("github-actions", ".github")]
)
def test_pinned_versions_are_updated(ecosystem: str, file: str) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    paths = [Path(line) for line in tracked.stdout.splitlines()]
    pinned = {ROOT / path.parent for path in paths if path.name == file} or {ROOT}
    assert pinned <= updated_directories(ecosystem)
