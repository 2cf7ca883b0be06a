"""The operator as a process, with a real API server and pods simulated by kwok."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kubectl import COMMAND_TIMEOUT, Kubectl
from support.operator_process import PROGRAM, OperatorProcess


@pytest.fixture
def operator(api: Kubectl, as_operator: Path, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator process for the test's namespace, with the rights of deploy/rbac, not yet started."""
    process = OperatorProcess(as_operator, tmp_path / "operator.log", f"--namespace={namespace}")
    yield process
    process.stop()
    # Without an operator, finalizers would remain, and a namespace that cannot terminate keeps the API server busy.
    command = [PROGRAM, "release-finalizers", f"--namespace={namespace}"]
    subprocess.run(
        command, env={**os.environ, "KUBECONFIG": str(api.kubeconfig)}, capture_output=True, check=True, timeout=COMMAND_TIMEOUT
    )
    print(process.log.read_text()[-4000:] if process.log.exists() else "never started")  # noqa: T201  # shown with a failure
