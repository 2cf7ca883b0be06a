"""Several operators with one lease, each with a login of its own, so that the API server's audit log tells them apart."""

import contextlib
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from localcluster.addresses import free_port
from support import faultproxy
from support.faultproxy import FaultProxy
from support.kubectl import Kubectl, eventually
from support.operator_account import SYSTEM, Request, log_in, requests
from support.operator_process import OperatorProcess

LEASE = "userstorage-operator"


class Replica:
    """One operator process behind a proxy of its own."""

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
        """Whether it has logged the event."""
        return f'"event":"{event}"' in self.process.log.read_text()

    def get(self, path: str) -> Any:
        """What it serves."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read().decode()


class OperatorReplicas:
    """All that have run, in the order of their start, and those that run."""

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
        """One more, which has come as far as to stand by."""
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
        """The one that leads, once there is exactly one."""
        found = eventually(self._leader, within=30)
        assert found is not None
        return found

    def remove(self, replica: Replica) -> None:
        """Forget one that has ended."""
        self.running.remove(replica)

    def close(self) -> None:
        """End them all."""
        for replica in self.running:
            replica.process.kill()
        self._stack.close()

    def writes(self) -> list[Request]:
        """What all of them have written, leases included, in the order of arrival."""
        found = [request for request in requests(self.api, *self._credentials) if request.is_write]
        return sorted(found, key=lambda write: write.received)

    def _leader(self) -> Replica | None:
        leading = [replica for replica in self.running if replica.has_logged("started")]
        assert len(leading) <= 1, "two lead"
        return leading[0] if leading else None


def free_lease(api: Kubectl) -> None:
    """A lease that its last holder has given up."""
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
    """`count` of them, with more options, on a lease that its last holder has given up, so that nothing has to be waited for."""
    free_lease(api)
    several = OperatorReplicas(api, directory, namespace, options)
    try:
        for _ in range(count):
            several.add()
        yield several
        api.run("delete", "us", "--all", "-n", namespace, "--wait=false")
        eventually(lambda: not api.list_all("userstorages", namespace), within=120, every=1)
    finally:
        several.close()
        api.run("delete", "lease", LEASE, "-n", SYSTEM, "--ignore-not-found")
