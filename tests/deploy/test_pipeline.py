"""Runs the make targets of the pipeline on a checkout; the long ones are shortened."""

import os
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT
from support.workflows import targets

SHORTENED = {
    "coverage": ["COVERED=tests/unit/test_names.py tests/cluster/test_process.py", "TEST_ARGS=-n 0"],
    "test-e2e": ["TEST_ARGS=--collect-only"],  # all of it is part of `make test`
}
TESTED_ELSEWHERE = {"deploy"}
"""Targets that only call a script which test_scripts.py runs on a cluster: scripts/deploy.sh."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the committed state, as the pipeline checks it out."""
    directory = tmp_path_factory.mktemp("checkout")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(directory)], check=True)
    return directory


@pytest.mark.parametrize("target", sorted(targets() - TESTED_ELSEWHERE))
def test_every_make_target_of_the_ci_pipeline_succeeds(checkout: Path, target: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "MAKE", "VIRTUAL_ENV"))}
    done = subprocess.run(
        ["make", target, *SHORTENED.get(target, ())], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    if target == "coverage":
        assert "<coverage" in (checkout / "coverage.xml").read_text()
