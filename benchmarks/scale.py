"""The operator with ten thousand UserStorages: created, at rest, restarted, failed over, deleted.

The result is written after each part, so that it is kept if the run is stopped. Claims are bound and pods run by kwok. The operator
runs with leader election; its renewals of the lease are counted apart from its writes.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from apiserver import ApiServer, connect
from contenders import Contender, new_cluster
from load import create_namespace, create_until_ready, delete_until_gone, user_storages, users
from measuring import command, is_write, memory, new_result
from parts import Parts
from replicas import Replicas, one_leader, until, value
from side_by_side import CHILDREN, Round, measure

from localcluster import Cluster
from localcluster.progress import MORE, Console, Report
from userstorage_operator.status.requeue import REPORT_DELAY_IN_BURST

_LEASE = "/apis/coordination.k8s.io/v1/namespaces/userstorage-system/leases/userstorage-operator"
_SWEEPS = 2.2
"""Sweeps that fit into the steady state, if it is shorter than two of the default period. Its jitter is 20 %."""
_SWEEP_PERIOD = 300.0
_DELAYED = REPORT_DELAY_IN_BURST.total_seconds() * 1.25
"""Seconds without a write after which the operator owes none."""


class ScaleResults(Parts):
    """The results of the parts, and those of smaller numbers of objects."""

    def __init__(self, path: Path, repeat: str, report: Report) -> None:
        super().__init__(path, repeat, report)
        self._rounds: list[Round] = []

    def add_round(self, measured: Round) -> None:
        """Add the result of a smaller number of objects."""
        self._rounds.append(measured)
        self.keep(f"{measured.objects} objects: {_cpu_ms(measured):.1f} ms a CR")

    def result(self) -> dict[str, Any]:
        """Return all results for JSON."""
        return {**super().result(), "rounds": [asdict(one) for one in self._rounds]}

    def text(self) -> str:
        """Return all results as a Markdown table."""
        lines = [super().text()]
        for measured in self._rounds:
            each = {
                "CPU per CR": f"{_cpu_ms(measured):.1f} ms",
                "CPU per deletion": f"{measured.deleted.cpu['contender'] / measured.objects * 1000:.1f} ms",
                "CRs a second, to Ready": f"{measured.objects / measured.created.makespan:.1f}",
                "memory": f"{measured.memory:.0f} MiB",
            }
            lines += [
                f"| {measured.objects} objects on a cluster of their own | {name} | {one} |" for name, one in each.items()
            ]
        if "create" in self.found and self._rounds:
            size = self._rounds[0].objects
            small = median(_cpu_ms(measured) for measured in self._rounds if measured.objects == size)
            ratio = self.found["create"]["cpu_ms_per_object"] / small
            lines.append(f"| growth | CPU per object, to that with {size} objects | {ratio:.2f} |")
        return "\n".join(lines)


def _cpu_ms(measured: Round) -> float:
    return measured.created.cpu["contender"] / measured.objects * 1000


class Scale:
    """One run: the parts in the order in which they are called, and their results."""

    def __init__(
        self, api: ApiServer, replicas: Replicas, chosen: argparse.Namespace, results: ScaleResults, report: Report
    ) -> None:
        self._api = api
        self._replicas = replicas
        self._objects: int = chosen.objects
        self._steady_seconds: float = chosen.steady_minutes * 60
        self._results = results
        self._report = report

    async def create(self) -> None:
        """Create all objects at once."""
        [replica] = self._replicas.running
        await create_namespace(self._api, "warm-up")
        await create_until_ready(self._api, "warm-up", users(2, "warm-up"), timeout=120)
        await create_namespace(self._api, "bench")
        cpu = self._replicas.cpu(replica)
        await asyncio.to_thread(cpu.wait_until_quiet)
        stored = await self._etcd_size()
        cpu.reset()
        self._replicas.requests()
        line = await create_until_ready(self._api, "bench", users(self._objects), 7200, self._report)
        used = cpu.used()
        await asyncio.to_thread(cpu.wait_until_quiet, 600)
        requests = self._replicas.requests()
        resident, peak = memory(replica.pid)
        self._results.add(
            "create",
            objects=self._objects,
            seconds=line.makespan,
            rate=self._objects / line.makespan,
            p50=line.percentile(50),
            p99=line.percentile(99),
            first_tenth=line.after(0.1),
            cpu_ms_per_object=used["contender"] / self._objects * 1000,
            cpu_ms_per_object_until_quiet=cpu.used()["contender"] / self._objects * 1000,
            apiserver_cpu_ms_per_object=used["kube-apiserver"] / self._objects * 1000,
            controller_manager_cpu_ms_per_object=used["kube-controller-manager"] / self._objects * 1000,
            writes_per_object=sum(count for name, count in requests.items() if is_write(name)) / self._objects,
            requests=dict(requests.most_common()),
            memory=resident,
            peak_memory=peak,
            json_kib_per_object=await self._json_size() / 1024,
            etcd_kib_per_object=(await self._etcd_size() - stored) / self._objects / 1024,
        )

    async def _json_size(self) -> int:
        """Return the bytes of the JSON of one UserStorage and its children."""
        found = [await self._api.request("GET", f"{user_storages('bench')}/user-0")]
        found += [await self._api.request("GET", f"{path}/user-storage-user-0") for path in CHILDREN.values()]
        return sum(len(json.dumps(obj, separators=(",", ":"))) for obj in found)

    async def _etcd_size(self) -> float:
        """Return the bytes of etcd's database, with the older versions that it has not compacted yet."""
        return value(await self._api.text("/metrics"), "apiserver_storage_size_bytes")

    async def steady(self) -> None:
        """Change nothing, over two sweeps."""
        [replica] = self._replicas.running
        cpu, seconds = self._replicas.cpu(replica), self._steady_seconds
        await self._silence()
        sweeps = value(await replica.metrics(), "userstorage_sweep_duration_seconds_count")
        cpu.reset()
        self._replicas.requests()
        start, highest = time.monotonic(), 0.0
        while (passed := time.monotonic() - start) < seconds:
            await asyncio.sleep(min(5, seconds - passed))
            highest = max(highest, memory(replica.pid)[0])
            self._report(f"steady for {passed / 60:.1f} of {seconds / 60:.0f} min, {highest:.0f} MiB{MORE}")
        used, requests = cpu.used(), self._replicas.requests()
        metrics = await replica.metrics()
        self._results.add(
            "steady",
            minutes=seconds / 60,
            sweeps=value(metrics, "userstorage_sweep_duration_seconds_count") - sweeps,
            writes=sum(count for name, count in requests.items() if is_write(name)),
            requests=dict(requests.most_common()),
            share_of_a_core=used["contender"] / seconds,
            apiserver_share_of_a_core=used["kube-apiserver"] / seconds,
            highest_memory=highest,
            loop_lag=await replica.loop_lag(),
        )

    async def _silence(self) -> None:
        """Wait until nothing was written for so long that no report of the creation is delayed any longer."""
        self._report("waiting for the delayed reports")
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < _DELAYED:
            await asyncio.sleep(5)
            if any(is_write(name) for name in self._replicas.requests()):
                silent_since = time.monotonic()

    async def restart(self) -> None:
        """Stop the operator and start it again."""
        old = self._replicas.running.pop()
        before, _ = memory(old.pid)
        await old.stop()
        self._replicas.requests()
        replica = await self._replicas.start()
        leading = await until(replica.leads)
        created = asyncio.create_task(create_until_ready(self._api, "warm-up", users(1, "restart"), timeout=600))
        await until(lambda: replica.has_checked(self._objects), every=0.5)
        checked = time.monotonic() - replica.started
        new = (await created).makespan
        cpu = self._replicas.cpu(replica)
        await asyncio.to_thread(cpu.wait_until_quiet)
        requests, (resident, peak) = self._replicas.requests(), memory(replica.pid)
        self._results.add(
            "restart",
            leading_after=leading,
            all_checked_after=checked,
            new_object_ready_after=new,
            writes_but_of_the_new_object=_writes_beside_one(requests),
            requests=dict(requests.most_common()),
            memory_before=before,
            memory=resident,
            peak_memory=peak,
        )

    async def failover(self) -> None:
        """Kill the leader; a second replica takes over."""
        [old] = self._replicas.running
        standby = await self._replicas.start()
        await until(standby.answers)
        await asyncio.sleep(5)
        idle, _ = memory(standby.pid)
        holder = (await self._api.request("GET", _LEASE))["spec"]["holderIdentity"]
        self._replicas.requests()
        killed = time.monotonic()
        await old.stop(signal.SIGKILL)
        self._replicas.running.remove(old)

        async def taken() -> bool:
            return bool((await self._api.request("GET", _LEASE))["spec"].get("holderIdentity") not in (holder, "", None))

        await until(taken, every=0.1)
        taken_over = time.monotonic()
        new = await create_until_ready(self._api, "warm-up", users(1, "failover"), timeout=600)
        await until(lambda: standby.has_checked(self._objects), every=0.5)
        checked = time.monotonic() - taken_over
        await asyncio.to_thread(self._replicas.cpu(standby).wait_until_quiet)
        requests, (resident, peak) = self._replicas.requests(), memory(standby.pid)
        self._results.add(
            "failover",
            taken_over_after=taken_over - killed,
            new_object_ready_after_take_over=new.makespan,
            all_checked_after_take_over=checked,
            writes_but_of_the_new_object=_writes_beside_one(requests),
            memory_of_a_standby=idle,
            memory=resident,
            peak_memory=peak,
        )

    async def delete(self) -> None:
        """Delete all objects at once."""
        [replica] = self._replicas.running
        cpu = self._replicas.cpu(replica)
        await asyncio.to_thread(cpu.wait_until_quiet)
        cpu.reset()
        self._replicas.requests()
        line = await delete_until_gone(self._api, "bench", 7200, self._report)
        used, requests = cpu.used(), self._replicas.requests()
        self._results.add(
            "delete",
            seconds=line.makespan,
            rate=self._objects / line.makespan,
            cpu_ms_per_object=used["contender"] / self._objects * 1000,
            writes_per_object=sum(count for name, count in requests.items() if is_write(name)) / self._objects,
            requests=dict(requests.most_common()),
        )


def _writes_beside_one(requests: Counter[str]) -> int:
    """Return the writes without those of one new object: what was written more often than once, and patches of other objects."""
    once = {
        "create networkpolicies", "create persistentvolumeclaims", "create services", "create pods", "create events",
        "patch userstorages", "patch userstorages/status",
    }  # fmt: skip
    return sum(count - (name in once) for name, count in requests.items() if is_write(name))


async def run(cluster: Cluster, chosen: argparse.Namespace, results: ScaleResults, report: Report) -> None:
    """Run the parts. A part that fails ends the run; the results before it are written."""
    sweep = min(_SWEEP_PERIOD, chosen.steady_minutes * 60 / _SWEEPS)
    async with connect(cluster) as api, one_leader(cluster, f"--sweep-period={sweep:.0f}") as replicas:
        scale = Scale(api, replicas, chosen, results, report)
        for part in (scale.create, scale.steady, scale.restart, scale.failover, scale.delete):
            report(f"part: {part.__doc__}")
            await part()


def main() -> None:
    """Measure small numbers of objects for comparison, then all parts; print the results."""
    parser = argparse.ArgumentParser(prog="make bench-scale BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument(
        "--sizes",
        default="500,1000,3000",
        help="smaller numbers, each on a cluster of its own; may be empty, and may repeat the first, whose median counts",
    )
    parser.add_argument("--steady-minutes", type=float, default=10)
    parser.add_argument("--output", type=Path, help="file for the result, without suffix; by default in benchmarks/results")
    chosen = parser.parse_args()
    report = Console()
    path = chosen.output or new_result("scale")
    results = ScaleResults(path, command("bench-scale", sys.argv[1:]), report)
    contender = Contender.parse("operator", report)
    for size in filter(None, chosen.sizes.split(",")):
        with new_cluster() as cluster:
            results.add_round(asyncio.run(measure(contender, int(size), cluster)))
    with new_cluster(report=report) as cluster:
        asyncio.run(run(cluster, chosen, results, report))
    print(results.text())


if __name__ == "__main__":
    main()
