"""Several operators with one lease, each with its own login, so that the audit log distinguishes their requests."""

import contextlib
import itertools
import json
import signal
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
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

    def is_ready(self) -> bool:
        """Whether the replica reports that it does its part."""
        try:
            self.get("/ready")
        except OSError:  # an HTTP status of 400 or more, or no answer
            return False
        return True


class OperatorReplicas:
    """The running replicas in the order of their start, and the writes of all that have run."""

    def __init__(self, api: Kubectl, directory: Path, namespace: str, options: Sequence[str]) -> None:
        self.api = api
        self.namespace = namespace
        self.running: list[Replica] = []
        self.resumed: dict[str, datetime] = {}
        """Credential of each replica that `resume` continued, and when."""
        self._directory = directory
        self._options = options
        self._stack = contextlib.ExitStack()
        self._count = 0
        self._credentials: set[str] = set()

    def add(self) -> Replica:
        """Start one more replica and wait until it waits for the lease."""
        replica = self._new()
        self._launch(replica)
        eventually(lambda: replica.has_logged("waiting_for_lease"))
        return replica

    def replace_all(self, number: signal.Signals) -> None:
        """Send a signal that ends all replicas, start as many others at the same time, and wait until both is done."""
        former = list(self.running)
        successors = [self._new() for _ in former]
        for replica in former:
            replica.process.send_signal(number)
        for replica in successors:
            self._launch(replica)
        for replica in former:
            replica.process.wait()
            self.remove(replica)
        eventually(lambda: all(replica.has_logged("waiting_for_lease") for replica in successors))

    def resume(self, replica: Replica) -> None:
        """Continue a replica that SIGSTOP has suspended."""
        self.resumed[replica.credential] = datetime.now(UTC)
        replica.process.send_signal(signal.SIGCONT)

    def create_users(self, count: int) -> list[str]:
        """Create UserStorages, which is work for the leader, and return their names."""
        names = [f"u{uuid.uuid4().hex[:8]}" for _ in range(count)]
        items = [
            {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": name}, "spec": {"userID": name}}
            for name in names
        ]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.api.run("create", "-n", self.namespace, "-f", "-", input=listed)
        return names

    def is_ready(self, user: str) -> bool:
        """Whether the UserStorage is Ready."""
        found = self.api.get("us", user, self.namespace)
        return found is not None and (found.get("status") or {}).get("phase") == "Ready"

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

    def _new(self) -> Replica:
        self._count += 1
        directory = self._directory / str(self._count)
        directory.mkdir()
        login = log_in(self.api, directory)
        proxy = self._stack.enter_context(faultproxy.running(login.kubeconfig, directory))
        return Replica(proxy, login.credential, directory / "log", self.namespace, self._options)

    def _launch(self, replica: Replica) -> None:
        replica.process.launch()
        self.running.append(replica)
        self._credentials.add(replica.credential)

    def _leader(self) -> Replica | None:
        leading = [replica for replica in self.running if replica.process.exit_code() is None and replica.has_logged("started")]
        assert len(leading) <= 1, "two replicas lead"
        return leading[0] if leading else None


def is_work(write: Request) -> bool:
    """Whether a write is one of the leader, rather than one for its lease."""
    return write.resource != "leases"


def sent_on_resume(writes: list[Request], resumed: Mapping[str, datetime]) -> list[Request]:
    """Return what suspended leaders wrote from the moment on at which they were `resumed`."""
    work = (write for write in writes if is_work(write) and write.credential in resumed)
    return [write for write in work if write.received >= resumed[write.credential]]


def assert_never_two(writes: list[Request], resumed: Mapping[str, datetime]) -> None:
    """Check that each process wrote during one period only, and not before it had acquired the lease.

    One of those that were `resumed` may have been suspended between its last look at the fence and the system call that sends the
    write, some twenty microseconds: this one write goes out at that moment.
    """
    late = sent_on_resume(writes, resumed)
    assert len({write.credential for write in late}) == len(late), f"written after a suspension: {late}"
    work = [write for write in writes if is_work(write) and write not in late]
    periods = [credential for credential, _ in itertools.groupby(work, key=lambda write: write.credential)]
    assert len(periods) == len(set(periods)), "a process wrote again after another one had written"
    for former, successor in itertools.pairwise(periods):
        acquired = min(w.received for w in writes if w.credential == successor and not is_work(w) and w.code == 200)
        assert max(w.answered for w in work if w.credential == former) <= acquired, (
            "written after another process had acquired the lease"
        )
        assert acquired <= min(w.received for w in work if w.credential == successor), "written before the lease was acquired"


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
        api.delete("lease", LEASE, namespace=SYSTEM)
