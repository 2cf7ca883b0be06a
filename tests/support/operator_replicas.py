"""Several operators with one lease, each with its own login, so that the audit log distinguishes their requests."""

import contextlib
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from localcluster.addresses import free_port
from support import faultproxy
from support.faultproxy import FaultProxy
from support.kubectl import PATIENCE, Kubectl, eventually
from support.operator_account import SYSTEM, Request, log_in, requests
from support.operator_process import OperatorProcess

LEASE = "userstorage-operator"


class Replica:
    """One operator process behind its own proxy."""

    def __init__(self, proxy: FaultProxy, credential: str, log: Path, namespace: str, options: Sequence[str]) -> None:
        self.proxy = proxy
        self.credential = credential
        self.port = free_port()
        self.process = OperatorProcess(
            proxy.kubeconfig,
            log,
            f"--namespace={namespace}",
            "--leader-elect",
            f"--lease-namespace={SYSTEM}",
            f"--http-port={self.port}",
            *options,
        )

    def has_logged(self, event: str) -> bool:
        """Whether the replica has logged the event."""
        return f'"event":"{event}"' in self.process.log.read_text()

    def get(self, path: str) -> Any:
        """Return the body that the replica's HTTP server sends for `path`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as response:
            return response.read().decode()


class OperatorReplicas:
    """The running replicas in the order of their start, and the writes of all that have run."""

    def __init__(self, api: Kubectl, directory: Path, namespace: str, options: Sequence[str]) -> None:
        self.api = api
        self.namespace = namespace
        self.running: list[Replica] = []
        self._directory = directory
        self._options = options
        self._stack = contextlib.ExitStack()
        self._count = 0
        self._credentials: set[str] = set()

    def add(self) -> Replica:
        """Start one more replica and wait until it waits for the lease."""
        self._count += 1
        directory = self._directory / str(self._count)
        directory.mkdir()
        login = log_in(self.api, directory)
        proxy = self._stack.enter_context(faultproxy.running(login.kubeconfig, directory))
        replica = Replica(proxy, login.credential, directory / "log", self.namespace, self._options)
        replica.process.launch()
        self.running.append(replica)
        self._credentials.add(login.credential)
        eventually(lambda: replica.has_logged("waiting_for_lease"))
        return replica

    def leader(self) -> Replica:
        """Wait until exactly one replica leads, and return it."""
        found = eventually(self._leader)
        assert found is not None
        return found

    def remove(self, replica: Replica) -> None:
        """Remove a replica that has ended from `running`."""
        self.running.remove(replica)

    def close(self) -> None:
        """Kill all replicas."""
        for replica in self.running:
            replica.process.kill()
        self._stack.close()

    def writes(self) -> list[Request]:
        """Return the writes of all replicas, leases included, in the order in which the API server received them."""
        found = [request for request in requests(self.api, *self._credentials) if request.is_write]
        return sorted(found, key=lambda write: write.received)

    def _leader(self) -> Replica | None:
        leading = [replica for replica in self.running if replica.has_logged("started")]
        assert len(leading) <= 1, "two replicas lead"
        return leading[0] if leading else None


def free_lease(api: Kubectl) -> None:
    """Create the lease as if its last holder had released it."""
    api.apply(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE, "namespace": SYSTEM},
            "spec": {"leaseDurationSeconds": 1, "leaseTransitions": 1},
        }
    )


@contextlib.contextmanager
def replicas(
    api: Kubectl, directory: Path, namespace: str, count: int, options: Sequence[str] = ()
) -> Iterator[OperatorReplicas]:
    """Run `count` replicas with additional options, on a released lease, so that the first need not wait for its expiry."""
    free_lease(api)
    started = OperatorReplicas(api, directory, namespace, options)
    try:
        for _ in range(count):
            started.add()
        yield started
        api.run("delete", "us", "--all", "-n", namespace, "--wait=false")
        eventually(lambda: not api.list_all("userstorages", namespace), every=1)
    finally:
        started.close()
        api.run("delete", "lease", LEASE, "-n", SYSTEM, "--ignore-not-found")
