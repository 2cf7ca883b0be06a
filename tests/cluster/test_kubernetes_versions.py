"""The oldest Kubernetes that admits the CRDs is the one that docs/install.md names.

To compile the API server of each version would take an hour: `make test-oldest` does it for the oldest one. But the library of
the API server has the CEL environments of all versions.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from localcluster.builds import GoProgram, build_go
from localcluster.progress import silent

DEFINITIONS = sorted((ROOT / "deploy/crds").glob("userstorage.dev_*.yaml"))


@pytest.fixture(scope="module")
def refused() -> dict[int, list[str]]:
    """Minor version of Kubernetes -> the rules of the CRDs that it refuses."""
    program = build_go(GoProgram("crdrules", ".", modules=Path(__file__).parent / "go"), silent)

    def rules(definition: Path, minor: int) -> list[str]:
        asked = json.dumps({"minor": minor, "object": yaml.safe_load(definition.read_text())})
        return subprocess.run([program], input=asked, capture_output=True, text=True, check=True).stdout.splitlines()

    return {minor: [rule for path in DEFINITIONS for rule in rules(path, minor)] for minor in range(30, 37)}


def test_documented_version_is_the_oldest_that_admits_the_rules(refused: dict[int, list[str]]) -> None:
    documented = re.search(r"^Kubernetes 1\.(\d+) or newer", (ROOT / "docs/install.md").read_text(), re.MULTILINE)
    assert documented is not None
    oldest = int(documented[1])
    assert {minor: rules for minor, rules in refused.items() if minor >= oldest and rules} == {}
    assert any("undeclared reference to 'format'" in rule for rule in refused[oldest - 1])
