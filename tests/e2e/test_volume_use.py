"""Volume usage, from the kubelet to the status, the metrics and kubectl; and the rights of the token that reads it."""

import json
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from kubectl_userstorage.explaining import explain
from support.cluster_access import LocalNode
from support.kubectl import PATIENCE, Kubectl, eventually
from support.operator_account import ACCOUNT
from support.users import NamespaceUsers

MEBI = 1 << 20
SYSTEM = "userstorage-system"
STATS_ACCOUNT = "userstorage-volume-stats"


@pytest.fixture
def claim(users: NamespaceUsers, tmp_path: Path) -> str:
    """A claim whose volume is a separate file system of 16 MiB."""
    if not isinstance(users.cluster, LocalNode):
        pytest.skip("a volume of limited size can be created only on the local node (--cluster=local, as root)")
    directory = tmp_path / "volume"
    users.cluster.small_file_system(directory, "16m")
    [node] = json.loads(users.kubectl.run("get", "nodes", "-o", "json").stdout)["items"]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node["metadata"]["labels"]["kubernetes.io/hostname"]]}
    users.create_volume(
        "small",
        mode="ReadWriteOnce",
        size="16Mi",
        shareable="true",
        local={"path": str(directory)},
        nodeAffinity={"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    )
    return "small"


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_volume_usage_is_reported(users: NamespaceUsers, claim: str, dufs: str, operator_port: int) -> None:
    users.apply_user("alice", dufs, storage={"claimName": claim})
    users.apply_user("zoe", dufs, replicas=0)  # without a pod, so without a figure
    users.until_ready("alice")

    def used_percent() -> int | None:
        percent: int | None = (users.get("userstorage", "alice") or {})["status"]["storage"].get("usedPercent")
        return percent

    assert users.web("alice").request("PUT", "music.bin", bytes(15 * MEBI)).code == 201
    eventually(lambda: used_percent() == 93)
    found = users.get("userstorage", "alice")
    assert found is not None
    assert found["status"]["storage"]["used"] == "15Mi"
    assert "volume 93 % full, 15Mi used" in "\n".join(explain(found, dufs))
    # The metrics of all volumes are updated once the last node has responded.
    eventually(lambda: metric(operator_port, "userstorage_volumes_nearly_full") == 1)
    assert metric(operator_port, "userstorage_volume_usage_ratio_max") == pytest.approx(15 / 16)
    assert metric(operator_port, "userstorage_volumes_measured") >= 1
    assert metric(operator_port, "userstorage_volume_stats_errors_total") == 0
    wide = users.kubectl.run("get", "us", "-n", users.namespace, "-o", "wide", "--sort-by=.status.storage.usedPercent").stdout
    header, *_, fullest = wide.splitlines()
    assert "USED%" in header
    assert re.search(r"^alice .* 93 ", fullest)


def kubelet_status(kubectl: Kubectl, path: str, token: str, authority: Path, *, upgrade: bool = False) -> int:
    """Return the status code of the kubelet's response."""
    address = kubectl.run("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}").stdout
    handshake = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    headers = {"Authorization": f"Bearer {token}", **(handshake if upgrade else {})}
    request = urllib.request.Request(f"https://{address}:10250{path}", headers=headers)  # https
    tls = ssl.create_default_context(cafile=str(authority))
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=tls) as response:  # noqa: S310  # https
            code: int = response.status
    except urllib.error.HTTPError as error:
        code = error.code
    return code


def test_kubelet_token_grants_only_statistics(users: NamespaceUsers, dufs: str, tmp_path: Path) -> None:
    if not isinstance(users.cluster, LocalNode):
        pytest.skip("kubelets are reachable only on the local node (--cluster=local, as root)")
    kubectl = users.kubectl
    authority = tmp_path / "ca.crt"
    configmap = ["get", "configmap", "kube-root-ca.crt", "-n", users.namespace, "-o", r"jsonpath={.data.ca\.crt}"]
    authority.write_text(kubectl.run(*configmap).stdout)
    # The operator's account can create this token, and no token of another account.
    get = ["create", "token", "-n", SYSTEM, f"--as={ACCOUNT}"]
    token = kubectl.run(*get, STATS_ACCOUNT).stdout.strip()
    for other in ("default", "userstorage-operator"):
        assert "forbidden" in kubectl.run(*get, other, check=False).stderr

    users.apply_user("alice", dufs)
    users.until_ready("alice")
    pod = f"{users.namespace}/user-storage-alice"
    assert kubelet_status(kubectl, "/stats/summary", token, authority) == 200
    exec_path = f"/exec/{pod}/filebrowser?command=id&output=1"
    for path in (exec_path, "/pods", "/configz", "/metrics", "/logs/", f"/containerLogs/{pod}/filebrowser"):
        assert kubelet_status(kubectl, path, token, authority) == 403, path
    assert kubelet_status(kubectl, exec_path, token, authority, upgrade=True) == 403
    assert kubelet_status(kubectl, "/stats/summary", "invented", authority) == 401
    for resource in ("secrets", "pods", "userstorages.userstorage.dev", "nodes"):
        can = ["auth", "can-i", "list", resource, "-A", f"--as=system:serviceaccount:{SYSTEM}:{STATS_ACCOUNT}"]
        assert kubectl.run(*can, check=False).stdout == "no\n", resource
