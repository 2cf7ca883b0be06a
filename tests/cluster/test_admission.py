"""The operator's own account can still serve every flavor under deploy/admission."""

import json
import uuid

import pytest

from support.kubectl import Kubectl, eventually
from support.operator_account import ACCOUNT
from support.operator_pod import pod
from support.operator_process import OperatorProcess


@pytest.mark.kwok
@pytest.mark.parametrize(
    "browser", [{"flavor": "FileBrowser"}, {"flavor": "Dufs"}, {"flavor": "Dufs", "image": "example.com/dufs:1"}]
)
def test_every_flavor_is_served_under_admission_policies(
    api: Kubectl, namespace: str, operator: OperatorProcess, browser: dict[str, str]
) -> None:
    foreign_image = json.dumps(pod("docker.io/library/busybox:1.37"))
    probe = ["create", "--dry-run=server", f"--as={ACCOUNT}", "-n", namespace, "-f", "-"]
    # Wait until the policies are in force: the API server loads them with a delay.
    eventually(lambda: "built-in image" in api.run(*probe, input=foreign_image, check=False).stderr)
    name = f"test-{uuid.uuid4().hex[:8]}"
    auth = {"mode": "None", "acknowledgeUnauthenticated": True}
    api.apply(
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorageClass",
            "metadata": {"name": name},
            "spec": {"browser": browser, "auth": auth},
        },
        {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": {"name": "alice", "namespace": namespace},
            "spec": {"userID": "alice", "className": name},
        },
    )
    try:
        operator.start()
        eventually(lambda: api.phase("alice", namespace) == "Ready")
        served = api.get("pod", "user-storage-alice", namespace)
        assert served is not None
        assert served["metadata"]["annotations"]["userstorage.dev/class"] == name
    finally:
        api.delete("usc", name)
