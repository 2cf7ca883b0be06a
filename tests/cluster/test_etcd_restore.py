"""etcd is restored to an earlier moment, so that resource versions go back: the operator ends as one that was restarted."""

import contextlib
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import processes
from localcluster.addresses import free_port
from support.backend import account
from support.control_plane import ControlPlane
from support.kubectl import PATIENCE, eventually
from support.operator_account import SYSTEM, log_in
from support.operator_process import OperatorProcess
from support.operator_replicas import free_lease

pytestmark = [pytest.mark.kwok]

USERS = "users"
LATER_WRITES = 300
"""Writes after the copy: without an operator that notices, the watches stay silent until as many follow the restoration."""
BEYOND_LEASE = 12.0
"""Seconds without an API server after which no leader can prove its leadership."""


class RestorableCluster(ControlPlane):
    """A cluster whose etcd can be copied and put back."""

    @property
    def _copy(self) -> Path:
        return self._directory.parent / "etcd-copy"

    @property
    def _data(self) -> Path:
        return self._directory / "run" / "etcd"

    def copy_etcd(self) -> None:
        """Copy the data of etcd as it is now."""
        with self.stopped("etcd"):
            shutil.copytree(self._data, self._copy)

    def restore_etcd(self, outage: float) -> None:
        """Put the copy back, with all programs of the control plane stopped for at least `outage` seconds."""
        processes.kill(self.processes().values())
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        time.sleep(outage)
        self.resume()

    def write_much(self) -> None:
        """Write some hundred times."""
        listed = [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"later-{number}", "namespace": USERS}}
            for number in range(LATER_WRITES)
        ]
        manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": listed})
        self.kubectl.run("create", "-f", "-", input=manifests)

    def users(self) -> dict[str, str]:
        """Return the uids of all UserStorages by name."""
        return {raw["metadata"]["name"]: raw["metadata"]["uid"] for raw in self.kubectl.list_all("us", USERS)}

    def add_user(self, name: str) -> None:
        self.kubectl.apply(
            {
                "apiVersion": "userstorage.dev/v1",
                "kind": "UserStorage",
                "metadata": {"name": name, "namespace": USERS},
                "spec": {"userID": name},
            }
        )

    def is_ready(self, name: str) -> bool:
        return self.kubectl.phase(name, USERS) == "Ready"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RestorableCluster]:
    """A separate cluster, as other tests of the worker would lose their objects."""
    cluster = RestorableCluster(tmp_path / "cluster")
    try:
        yield cluster
    finally:
        cluster.stop()


def served(port: int, token: str) -> dict[str, str]:
    """Return the phases of all UserStorages by name, as the read API of an operator returns them; nothing if it is unavailable."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/userstorages?namespace={USERS}", headers={"Authorization": f"Bearer {token}"}
    )
    with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  # a local port
        return {item["name"]: item["phase"] for item in json.load(response)["items"]}
    return {}


@pytest.mark.parametrize("leader_goes_on", [True, False], ids=["leader-goes-on", "beyond-the-lease"])
def test_operator_ends_as_a_restarted_one(
    cluster: RestorableCluster, tmp_path: Path, request: pytest.FixtureRequest, *, leader_goes_on: bool
) -> None:
    kubectl = cluster.kubectl
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": USERS}})
    token = account(kubectl, USERS, here=True)
    free_lease(kubectl)
    kubeconfig = log_in(kubectl, tmp_path).kubeconfig
    election = [] if leader_goes_on else ["--leader-elect", f"--lease-namespace={SYSTEM}"]
    port = free_port()
    operator = OperatorProcess(kubeconfig, tmp_path / "log", f"--http-port={port}", *election)
    request.addfinalizer(operator.kill)
    operator.start()
    for name in ("alice", "bob", "carol"):
        cluster.add_user(name)
    eventually(lambda: all(map(cluster.is_ready, ("alice", "bob", "carol"))))
    cluster.copy_etcd()
    before = cluster.users()
    kubectl.run("delete", "us", "bob", "-n", USERS)
    kubectl.run("patch", "us", "carol", "-n", USERS, "--type=merge", "-p", '{"spec":{"replicas":0}}')
    cluster.add_user("dave")
    eventually(lambda: cluster.is_ready("dave") and kubectl.phase("carol", USERS) == "Suspended")
    cluster.write_much()

    cluster.restore_etcd(0 if leader_goes_on else BEYOND_LEASE)
    assert cluster.users() == before
    if not leader_goes_on:
        assert operator.wait() != 0
        operator.start()
    eventually(lambda: served(port, token) == dict.fromkeys(before, "Ready"))
    assert kubectl.get("pod", "user-storage-dave", USERS) is None
    # Changes after the restoration are seen, although their resource versions are lower than those before.
    cluster.add_user("erin")
    kubectl.run("patch", "us", "carol", "-n", USERS, "--type=merge", "-p", '{"spec":{"replicas":0}}')
    kubectl.run("delete", "us", "alice", "-n", USERS)
    expected = {"bob": "Ready", "carol": "Suspended", "erin": "Ready"}
    eventually(lambda: served(port, token) == expected)
    eventually(lambda: kubectl.get("pod", "user-storage-alice", USERS) is None)

    objects = kubectl.list_all("us", USERS)
    operator.stop()
    operator.start()
    eventually(lambda: served(port, token) == expected)
    time.sleep(3)  # it reconciles everything once
    assert kubectl.list_all("us", USERS) == objects, "a restarted operator found something to change"
