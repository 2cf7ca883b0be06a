"""What tools that wait by kstatus see, asked of the real library on the objects of a real API server."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from component.world import LIFE
from kubectl import Kubectl, eventually
from localcluster.builds import GoProgram, build_go
from localcluster.progress import silent
from operator_process import OperatorProcess

pytestmark = [pytest.mark.kwok]

KSTATUS = GoProgram("kstatus", ".", modules=Path(__file__).parent / "go")


@pytest.fixture(scope="module")
def kstatus() -> Callable[[dict[str, Any]], str]:
    program = build_go(KSTATUS, silent)

    def judge(raw: dict[str, Any]) -> str:
        return subprocess.run([program], input=json.dumps(raw), capture_output=True, text=True, check=True).stdout.strip()

    return judge


@pytest.mark.timeout(1200)  # the library's first build
def test_kstatus_sees_what_is_so(
    api: Kubectl, namespace: str, operator: OperatorProcess, kstatus: Callable[[dict[str, Any]], str]
) -> None:
    def create(name: str, user_id: str, **spec: Any) -> None:
        meta = {"name": name, "namespace": namespace}
        api.apply(
            {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": meta, "spec": {"userID": user_id, **spec}}
        )

    def seen(name: str) -> str:
        raw = api.get("us", name, namespace)
        assert raw is not None
        return kstatus(raw)

    create("alice", "alice")
    assert seen("alice") == "InProgress"  # nobody has looked at it yet
    operator.start()
    eventually(lambda: seen("alice") == "Current")
    create("second", "alice")
    eventually(lambda: seen("second") == "Failed")  # UserIDConflict
    create("slow", "slow", podMetadata={"annotations": {LIFE: "never-ready"}}, lifecycle={"startTimeout": "4s"})
    assert seen("slow") == "InProgress"
    eventually(lambda: seen("slow") == "Failed")  # StartTimeout
    assert seen("alice") == "Current"
    api.run(
        "patch",
        "us",
        "alice",
        "-n",
        namespace,
        "--type=merge",
        "-p",
        json.dumps({"spec": {"podMetadata": {"annotations": {LIFE: "slow-termination"}}}}),
    )
    eventually(lambda: seen("alice") == "Current")
    api.run("delete", "us", "alice", "-n", namespace, "--wait=false")
    assert seen("alice") == "Terminating"
