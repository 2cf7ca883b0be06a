"""deploy/uninstall on real containers: the Job removes finalizers after the operator has stopped."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.installation import OPERATOR, ROOT, Installation, push_image
from support.kubectl import WAIT, eventually

JOB = "job/userstorage-release-finalizers"


@pytest.fixture
def kustomization(installation: Installation, tmp_path: Path) -> str:
    """The directory of a kustomization around deploy/uninstall, as in docs/install.md, with the pushed image."""
    name, _, tag = push_image(installation.registry, "leaving", "userstorage-operator").rpartition(":")
    overlay = {
        "resources": [os.path.relpath(ROOT / "deploy/uninstall", tmp_path.resolve())],
        "images": [{"name": "userstorage-operator", "newName": name, "newTag": tag}],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(overlay))
    return str(tmp_path)


@pytest.fixture
def job(installation: Installation, kustomization: str) -> Iterator[str]:
    """The Job, applied after the operator has stopped; the operator runs again after the test."""
    installation.system("scale", "deployment/userstorage-operator", "--replicas=0")
    eventually(lambda: not installation.pods())
    installation.kubectl.run("apply", "-k", kustomization)
    yield JOB
    installation.kubectl.run("delete", "-k", kustomization)
    installation.system("scale", "deployment/userstorage-operator", "--replicas=3")
    installation.until_rolled_out()


@pytest.fixture
def alice(installation: Installation, user_namespace: str) -> str:
    installation.kubectl.run("apply", "-n", user_namespace, "-f", str(ROOT / "examples/alice.yaml"))
    eventually(lambda: installation.kubectl.phase("alice", user_namespace) == "Ready")
    return user_namespace


def test_uninstallation_job_removes_finalizers(installation: Installation, alice: str, job: str) -> None:
    installation.kubectl.delete("us", "alice", namespace=alice)
    installation.system("wait", job, "--for=condition=complete", WAIT)
    assert f"userstorage {alice}/alice released" in installation.system("logs", job)
    eventually(lambda: installation.kubectl.get("us", "alice", alice) is None)
    # The garbage collector deletes the pod, as no operator runs.
    eventually(lambda: not installation.kubectl.list_all("pods", alice))
    assert installation.kubectl.get("pvc", "user-storage-alice", alice) is not None
    assert not installation.system("get", "pods", "-l", OPERATOR, "-o", "name")
