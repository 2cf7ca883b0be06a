"""The operator as a process, against API server and kwok."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kubectl import Kubectl
from support.operator_process import PROGRAM, OperatorProcess


@pytest.fixture
def operator(api: Kubectl, as_operator: Path, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """A process that serves the test's namespace with the rights it has in production, not yet started."""
    process = OperatorProcess(as_operator, tmp_path / "operator.log", f"--namespace={namespace}")
    yield process
    process.stop()
    # What nobody serves any more cannot end, and a namespace that cannot end keeps the API server busy.
    command = [PROGRAM, "release-finalizers", f"--namespace={namespace}"]
    subprocess.run(command, env={**os.environ, "KUBECONFIG": str(api.kubeconfig)}, capture_output=True, check=True, timeout=120)
    print(process.log.read_text()[-4000:] if process.log.exists() else "never started")  # noqa: T201  # shown with a failure
