"""The gate under load: questions of login proxies at a constant rate, while UserStorages change.

API server, etcd, the gate, the load generator and this harness share one machine; the control plane runs at nice 10, as in
`read_api.py`. No operator runs: the harness writes the statuses. Run: `make bench-gate`.
"""

import argparse
import asyncio
import base64
import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import aiohttp
from constant_rate import CONNECTIONS, LoadResult, generate_load
from measuring import ROOT, command, cpu_seconds, memory, new_result, save, versions
from read_api import lower_priority, percentile
from read_api_workload import run

import localcluster
from localcluster.addresses import free_port
from localcluster.progress import Console
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import login

KEY = "benchmark-key-0123456789abcdefghijklmnop"
NAMESPACES = 10
CHANGES = 20
"""Changes of UserStorages a second."""
_PROBE_EVERY = 20
"""Of this many changes, one is polled until the gate knows it."""
_AT_ONCE = 16
_NAMESPACE = Resource("", "v1", "namespaces", "Namespace", namespaced=False)


@dataclass(frozen=True)
class Measurement:
    """The result of one run. Times are in seconds, memory in MiB; `cpu` is in cores."""

    name: str
    requests: int
    statuses: dict[int, int]
    p50: float
    p99: float
    worst: float
    p99_from_sending: float
    """Without the time for which the generator sent a request late."""
    decided_within: dict[str, float]
    """Bound in seconds -> share of the questions that the gate decided in that time after it had read them."""
    waiting: float
    """Time for which the gate was ready to run and had no core, for each second."""
    strangers: int
    """Requests of strangers besides, which are not in the figures above."""
    changes: int
    visible_after_p50: float
    visible_after_worst: float
    api_requests: int
    """Requests of the gate to the API server."""
    rows: int
    memory: float
    peak_memory: float
    cpu: dict[str, float]
    load_before: float


@dataclass
class Workload:
    """UserStorages with the status of a served user, and changes of them."""

    client: KubeClient
    users: int
    visible_after: list[float] = field(default_factory=list)
    changes: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    async def create(cls, users: int, report: Console) -> "Workload":
        """Create the class and `users` UserStorages, each with a status."""
        client = KubeClient(await login(), NoopObserver())
        network = {"expose": "Ingress", "hostTemplate": "${slug}.files.example.org"}
        body = {"metadata": {"name": "bench"}, "spec": {"network": network}}
        meta = {"apiVersion": USER_STORAGE_CLASSES.api_version, "kind": USER_STORAGE_CLASSES.kind}
        await client.create(USER_STORAGE_CLASSES, "", meta | body)
        for number in range(NAMESPACES):
            await client.create(_NAMESPACE, "", {"metadata": {"name": f"bench-{number}"}})
        workload, limit, created = cls(client, users), asyncio.Semaphore(_AT_ONCE), itertools.count(1)

        async def create_user(number: int) -> None:
            async with limit:
                spec = {"userID": f"user-{number}", "className": "bench"}
                meta = {"apiVersion": USER_STORAGES.api_version, "kind": USER_STORAGES.kind}
                body = meta | {"metadata": {"name": f"user-{number}"}, "spec": spec}
                await client.create(USER_STORAGES, _namespace(number), body)
                await workload.set_ready(number, ready=True)
            if (count := next(created)) % 1000 == 0:
                report(f"{count} of {users} UserStorages created")

        async with asyncio.TaskGroup() as group:
            for number in range(users):
                group.create_task(create_user(number))
        return workload

    async def set_ready(self, number: int, *, ready: bool) -> None:
        """Write the status of a served user."""
        conditions = [
            _condition("Ready", "PodReady" if ready else "Starting", ready),
            _condition("NetworkReady", "Synced", True),
        ]
        patch = {"status": {"phase": "Ready" if ready else "Starting", "conditions": conditions}}
        await self.client.merge_patch(USER_STORAGES, _namespace(number), f"user-{number}", patch, "status")

    async def change(self, base: str) -> None:
        """Make twenty changes a second until it is cancelled, of users whom no connection asks about."""
        self.changes, self.visible_after = 0, []
        start = time.monotonic()
        async with aiohttp.ClientSession(base) as session, asyncio.TaskGroup() as group:
            for count in itertools.count():
                await asyncio.sleep(max(0.0, start + count / CHANGES - time.monotonic()))
                group.create_task(self._change(next(self._numbers), session))

    async def _change(self, number: int, session: aiohttp.ClientSession) -> None:
        user, start = CONNECTIONS + number % (self.users - CONNECTIONS), time.monotonic()
        await self.set_ready(user, ready=False)
        while number % _PROBE_EVERY == 0:
            async with session.get("/v1/authorize/forward-auth", headers=headers_of(user, user)) as response:
                if response.status == 503:
                    self.visible_after.append(time.monotonic() - start)
                    break
            await asyncio.sleep(0.01)
        self.changes += 1


def _namespace(number: int) -> str:
    return f"bench-{number % NAMESPACES}"


def _condition(kind: str, reason: str, is_true: bool) -> Unstructured:
    since = "2026-01-01T00:00:00Z"
    status = {"type": kind, "status": str(is_true), "reason": reason, "message": "a message as an operator writes it"}
    return status | {"observedGeneration": 1, "lastTransitionTime": since}


def headers_of(user: int, owner: int) -> dict[str, str]:
    """Return the headers of a question of one user about the host of another."""
    return {
        "Authorization": f"Basic {base64.b64encode(f'user-{user}:{KEY}'.encode()).decode()}",
        "X-Forwarded-Host": f"user-{owner}.files.example.org",
        "X-Forwarded-Uri": "/photos/2026/a%20photo.jpg",
        "X-Forwarded-Method": "GET",
        "Cookie": f"_oauth2_proxy={'c' * 1200}",
        "Accept": "text/html,application/xhtml+xml",
        "Sec-Fetch-Site": "same-origin",
    }


@dataclass(frozen=True)
class Bench:
    """A running gate, and what asks it."""

    gate: int
    """Its process id."""
    door: int
    http: int
    """Its ports."""
    workload: Workload
    others: dict[str, int]
    """Name -> process id of the other parts of the cluster."""
    rate: int
    seconds: int
    directory: Path

    async def measure(self, name: str, strangers: int) -> Measurement:
        """Measure one run, with so many requests of strangers a second besides."""
        load, workload = os.getloadavg()[0], self.workload
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.http}") as session:
            before, cpu = await _api_requests(session), self._cpu()
            decided, waited, start = await _buckets(session), waited_for_a_core(self.gate), time.monotonic()
            changing = asyncio.create_task(workload.change(f"http://127.0.0.1:{self.door}"))
            try:
                result, besides = await self._generate(strangers)
            finally:
                changing.cancel()
                [ended] = await asyncio.gather(changing, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended
            spent = {part: used - cpu[part] for part, used in self._cpu().items()} | {"generator": result.cpu + besides.cpu}
            requests = await _api_requests(session) - before
            rows = await _value(session, "userstorage_gate_rows")
            waited = (waited_for_a_core(self.gate) - waited) / (time.monotonic() - start)
            counts = {bound: count - decided[bound] for bound, count in (await _buckets(session)).items()}
        durations, (now, peak) = [one.seconds for one in result.responses], memory(self.gate)
        return Measurement(
            name=name,
            requests=len(durations),
            statuses=dict(Counter(one.status for one in result.responses)),
            p50=percentile(durations, 0.5),
            p99=percentile(durations, 0.99),
            worst=max(durations),
            p99_from_sending=percentile([one.seconds - one.late for one in result.responses], 0.99),
            decided_within={bound: round(count / counts["+Inf"], 5) for bound, count in counts.items()},
            waiting=round(waited, 3),
            strangers=len(besides.responses),
            changes=workload.changes,
            visible_after_p50=percentile(workload.visible_after, 0.5),
            visible_after_worst=max(workload.visible_after, default=0.0),
            api_requests=int(requests),
            rows=int(rows),
            memory=now,
            peak_memory=peak,
            cpu={part: round(used / self.seconds, 2) for part, used in spent.items()},
            load_before=round(load, 2),
        )

    async def _generate(self, strangers: int) -> tuple[LoadResult, LoadResult]:
        """Return the responses to owners and to strangers."""
        urls = [f"http://127.0.0.1:{self.door}/v1/authorize/forward-auth"]
        owners = [headers_of(number, number) for number in range(CONNECTIONS)]
        others = [headers_of(number, number + 1) for number in range(CONNECTIONS // 2)]
        others += [headers_of(number, 10**6) | {"Authorization": "Basic bm9uZQ=="} for number in range(CONNECTIONS // 2)]
        apart = self.directory / f"strangers-{strangers}"
        apart.mkdir(exist_ok=True)
        loads = [asyncio.to_thread(generate_load, urls, owners, self.rate, self.seconds, self.directory, Console())]
        if strangers:
            loads.append(asyncio.to_thread(generate_load, urls, others, strangers, self.seconds, apart, Console()))
        result, *besides = await asyncio.gather(*loads)
        return result, besides[0] if besides else LoadResult([], 0.0)

    def give_core(self) -> None:
        """Leave one core to the gate, and the others to what asks it and to the cluster."""
        first, *others = sorted(os.sched_getaffinity(0))
        for pid, cores in {**dict.fromkeys((os.getpid(), *self.others.values()), others), self.gate: [first]}.items():
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), cores)

    def _cpu(self) -> dict[str, float]:
        processes = {"gate": self.gate, "harness": os.getpid()} | self.others
        return {part: cpu_seconds(pid) for part, pid in processes.items()}


async def _value(session: aiohttp.ClientSession, metric: str) -> float:
    """Return the sum of all series of a metric of the gate."""
    async with session.get("/metrics") as response:
        found = re.findall(rf"^{metric}(?:\{{.*\}})? (\S+)", await response.text(), re.MULTILINE)
    return sum(map(float, found))


async def _buckets(session: aiohttp.ClientSession) -> dict[str, float]:
    """Return how many questions of the benchmark the gate has decided within each bound."""
    async with session.get("/metrics") as response:
        text = await response.text()
    found = re.findall(
        r'^userstorage_gate_duration_seconds_bucket\{dialect="forward-auth",le="(.+)"\} (\S+)', text, re.MULTILINE
    )
    return {bound: float(count) for bound, count in found}


def waited_for_a_core(pid: int) -> float:
    """Return for how many seconds the main thread of a process has been ready to run while other processes had the cores."""
    _, nanoseconds, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(nanoseconds) / 1e9


async def _api_requests(session: aiohttp.ClientSession) -> float:
    return await _value(session, "userstorage_gate_api_requests_total")


def table(runs: list[Measurement]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| run | rows | requests | not 200 | p50 | p99 | worst | change in force after (p50, worst) | to the API server | RSS, peak | CPU |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run.name} | {run.rows} | {run.requests} | {run.requests - run.statuses.get(200, 0)} | {run.p50 * 1000:.2f} ms "
        f"| {run.p99 * 1000:.2f} ms | {run.worst * 1000:.0f} ms | {run.visible_after_p50:.2f} s, {run.visible_after_worst:.2f} s "
        f"| {run.api_requests} | {run.memory:.0f} MiB, {run.peak_memory:.0f} MiB | {run.cpu['gate']:.2f} |"
        for run in runs
    ]
    lines.append("")
    for one in runs:
        cpu = ", ".join(f"{part} {share:.2f}" for part, share in one.cpu.items())
        decided = ", ".join(f"{share:.2%} in {bound} s" for bound, share in one.decided_within.items() if bound != "+Inf")
        lines.append(
            f"- {one.name}: p99 {one.p99_from_sending * 1000:.2f} ms from sending; decided after reading {decided}; "
            f"the gate waited for a core for {one.waiting * 1000:.0f} ms each second; {one.strangers} requests of strangers; "
            f"{one.changes} changes; cores {cpu}; load before {one.load_before}"
        )
    return "\n".join(lines)


async def measure_all(chosen: argparse.Namespace, cluster: localcluster.Cluster, report: Console) -> list[Measurement]:
    """Create the UserStorages, start the gate, and measure each run."""
    kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}"]
    await run([*kubectl, "apply", "-k", str(ROOT / "deploy/crds")])
    async with asyncio.timeout(60):
        await _established(kubectl)
    workload = await Workload.create(chosen.objects, report)
    keys = cluster.directory / "keys"
    keys.write_text(KEY)
    door, http = free_port("127.0.0.1"), free_port("127.0.0.1")
    options = [f"--key-file={keys}", f"--port={door}", f"--http-port={http}", "--log-format=json"]
    with (cluster.directory / "gate.log").open("wb") as log:
        gate = _start([str(Path(sys.executable).with_name("userstorage-operator")), "gate", *options], log)
        try:
            await _ready(http)
            for pid in cluster.processes.values():
                lower_priority(pid)
            bench = Bench(gate.pid, door, http, workload, cluster.processes, chosen.rate, chosen.seconds, cluster.directory)
            runs = []
            for name, strangers, apart in (
                ("owners", 0, False),
                ("owners and strangers", chosen.strangers, False),
                ("owners, a core for the gate alone", 0, True),
            ):
                report(f"{name}: {chosen.rate} requests a second for {chosen.seconds} s")
                if apart:
                    bench.give_core()
                runs.append(await bench.measure(name, strangers))
            return runs
        finally:
            gate.terminate()
            gate.wait()
            await workload.client.close()


def _start(command: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log)


async def _established(kubectl: list[str]) -> None:
    """Wait until the API server serves both kinds: `kubectl wait` fails on a CRD so new that its conditions are null."""
    while True:
        with contextlib.suppress(subprocess.CalledProcessError):
            await run([*kubectl, "wait", "--for=condition=Established", "crd", "--all"])
            return
        await asyncio.sleep(0.5)


async def _ready(port: int) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.2)


def main() -> None:
    """Measure, print the table and save the result."""
    parser = argparse.ArgumentParser(prog="make bench-gate BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--strangers", type=int, default=1000, help="requests a second of strangers in the second run")
    parser.add_argument("--seconds", type=int, default=60)
    chosen = parser.parse_args()
    report = Console()
    with tempfile.TemporaryDirectory(prefix="userstorage-bench-") as directory:
        cluster = localcluster.start("control-plane", Path(directory), report)
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        try:
            runs = asyncio.run(measure_all(chosen, cluster, report))
        finally:
            localcluster.stop(Path(directory))
    repeat, about, text = command("bench-gate", sys.argv[1:]), versions(), table(runs)
    print(text)
    result = {**about, "command": repeat, "runs": [asdict(run) for run in runs]}
    save(new_result("gate"), result, f"`{repeat}` at commit {about['commit']}\n\n{text}")


if __name__ == "__main__":
    main()
