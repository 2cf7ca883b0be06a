"""Running operators: how they are started with leader election, what their metrics say, and what they ask of the API server."""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
from contenders import OPERATOR, login, operator
from measuring import ACCOUNT, AuditLog, Cpu
from side_by_side import SERVERS

from localcluster import Cluster
from localcluster.addresses import free_port

IN_A_NAMESPACE = " in a namespace"
_OF_LEASE = " leases"


class Replica:
    """A running operator, and what its metrics say."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.pid = process.pid
        self._port = port
        self.started = time.monotonic()

    async def metrics(self) -> str:
        """Return the metrics; empty before the process serves them."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self._port}/metrics") as response:
                return await response.text()
        except aiohttp.ClientError:
            return ""

    async def answers(self) -> bool:
        """Whether the process serves its metrics."""
        return bool(await self.metrics())

    async def leads(self) -> bool:
        """Whether this replica is the leader."""
        return value(await self.metrics(), "userstorage_leader") == 1

    async def has_checked(self, objects: int) -> bool:
        """Whether it has reconciled as many objects as there are, and none is waiting."""
        text = await self.metrics()
        done = value(text, "userstorage_reconcile_duration_seconds_count")
        return done >= objects and value(text, "userstorage_queue_depth") == 0

    async def loop_lag(self) -> float:
        """Return the largest delay of its event loop in the last minute, in seconds."""
        return value(await self.metrics(), "userstorage_loop_lag_seconds")

    async def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """Stop the process, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(sent)
        await self.process.wait()


class Replicas:
    """The operators that run on one cluster, with leader election, as its deployment runs them."""

    def __init__(self, cluster: Cluster, *options: str) -> None:
        self.running: list[Replica] = []
        self._cluster = cluster
        self._options = ("--leader-elect", "--lease-namespace=userstorage-system", *options)
        self._kubeconfig = login(cluster)
        self._log = AuditLog(cluster)

    async def start(self) -> Replica:
        """Start one more."""
        port = free_port()
        command = operator(str(OPERATOR), f"--http-port={port}", *self._options)
        with (self._cluster.directory / "operator.log").open("a") as output:
            process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, "KUBECONFIG": str(self._kubeconfig)}, stdout=output, stderr=output
            )
        self.running.append(Replica(process, port))
        return self.running[-1]

    def cpu(self, replica: Replica) -> Cpu:
        """Return the CPU of a replica, as `contender`, and of the cluster from now on."""
        return Cpu({"contender": replica.pid, **{name: self._cluster.processes[name] for name in SERVERS}})

    def requests(self) -> Counter[str]:
        """Return the requests of all replicas since the last call, without those for the lease.

        A list of one namespace has `IN_A_NAMESPACE` after its name; those of a sweep are of the whole cluster. Its further pages
        do not count: a list of many pods is no more than one request for them.
        """
        names = (
            request.name + (IN_A_NAMESPACE if request.verb == "list" and request.namespace else "")
            for request in self._log.read()
            if request.user == ACCOUNT and not (request.verb == "list" and request.namespace and "continue=" in request.query)
        )
        return Counter(name for name in names if _OF_LEASE not in name)


@contextlib.asynccontextmanager
async def one_leader(cluster: Cluster, *options: str) -> AsyncIterator[Replicas]:
    """Yield an operator that leads; at the end, kill it and all that were started since."""
    replicas = Replicas(cluster, *options)
    try:
        await until((await replicas.start()).leads)
        yield replicas
    finally:
        for replica in replicas.running:
            await replica.stop(signal.SIGKILL)


def value(metrics: str, name: str) -> float:
    """Return the sum of all series of a metric; 0 if there is none."""
    return sum(float(found) for found in re.findall(rf"^{name}(?:\{{.*?\}})? (\S+)$", metrics, re.MULTILINE))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 600, every: float = 0.2) -> float:
    """Wait until the condition holds; return the seconds. Raises TimeoutError."""
    start = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # another process makes it true
            await asyncio.sleep(every)
    return time.monotonic() - start
