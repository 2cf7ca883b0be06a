"""The image: the same sources give the same layers, and its bill of materials lists the installed packages."""

import json
import subprocess
from pathlib import Path

import pytest

from localcluster import ClusterError
from localcluster.progress import silent
from operatorimage import BUILDAH, engines
from support.installation import IMAGE, Installation

INSTALLED = "from importlib.metadata import distributions as all; print(*sorted(f'{d.name}=={d.version}' for d in all()))"


@pytest.fixture(scope="module")
def base() -> str:
    try:
        engines.choose(silent)
        return engines.debian_base(silent)
    except ClusterError as error:
        pytest.skip(f"the image: {error}")


def test_two_builds_have_the_same_layers(base: str) -> None:
    BUILDAH.build(IMAGE, base)
    again = IMAGE.replace("userstorage-operator", "userstorage-operator-again")
    BUILDAH.build(again, base, "--no-cache")
    assert layers(again) == layers(IMAGE)


def test_bill_of_materials_lists_installed_packages(base: str, installation: Installation, tmp_path: Path) -> None:
    BUILDAH.build(f"{IMAGE}-sbom", base, "--target=sbom", f"--output={tmp_path}")
    bill = json.loads((tmp_path / "userstorage-operator.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    root = bill["metadata"]["component"]
    named = {f"{part['name']}=={part['version']}" for part in (root, *bill["components"])}
    code, output = installation.exec(installation.leader(), "python", "-c", INSTALLED)
    assert code == 0, output
    assert set(output.split()) == named


def layers(reference: str) -> list[str]:
    command = [*BUILDAH.program, "inspect", "--type=image", f"localhost/{reference}"]
    inspected = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found: list[str] = inspected["OCIv1"]["rootfs"]["diff_ids"]
    return found
