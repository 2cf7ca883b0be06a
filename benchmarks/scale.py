"""The operator with ten thousand UserStorages: created, at rest, restarted, failed over, rolled out, resumed.

The result is written after each part, so that it is kept if the run is stopped. Claims are bound and pods run by kwok. The operator
runs with leader election; its renewals of the lease are counted apart from its writes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
from apiserver import USER_STORAGES, ApiServer, Object, connect
from contenders import OPERATOR, Contender, login, new_cluster, operator
from load import create_namespace, create_until_ready, delete_until_gone, follow, is_ready, phase, user_storages, users
from measuring import ACCOUNT, AuditLog, Cpu, command, is_write, memory, new_result, save, versions
from side_by_side import CHILDREN, SERVERS, Round, measure

from localcluster import Cluster
from localcluster.addresses import free_port
from localcluster.progress import MORE, Console, Report

LEASE = "/apis/coordination.k8s.io/v1/namespaces/userstorage-system/leases/userstorage-operator"
_OF_LEASE = " leases"
_IN_A_NAMESPACE = " in a namespace"
_IMAGES = ("example.org/browser:1", "example.org/browser:2")
_NAMESPACES = ("empty", "crowded")
_MERGE = "application/merge-patch+json"
_SWEEPS = 2.2
"""Sweeps that fit into the steady state, if it is shorter than two of the default period. Its jitter is 20 %."""
_SWEEP_PERIOD = 300.0


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

    async def leads(self) -> bool:
        """Whether this replica is the leader."""
        return value(await self.metrics(), "userstorage_leader") == 1

    async def has_checked(self, objects: int) -> bool:
        """Whether it has reconciled as many objects as there are, and none is waiting."""
        text = await self.metrics()
        done = value(text, "userstorage_reconcile_duration_seconds_count")
        return done >= objects and value(text, "userstorage_queue_depth") == 0

    async def stop(self, sent: signal.Signals = signal.SIGTERM) -> None:
        """Stop the process, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(sent)
        await self.process.wait()


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


class Scale:
    """One run: the parts in the order in which they are called, and their results."""

    def __init__(
        self, cluster: Cluster, api: ApiServer, chosen: argparse.Namespace, results: "Results", report: Report
    ) -> None:
        self._cluster = cluster
        self._api = api
        self._objects: int = chosen.objects
        self._chosen = chosen
        self._results = results
        self._report = report
        self._kubeconfig = login(cluster)
        self._log = AuditLog(cluster)
        self._sweep = min(_SWEEP_PERIOD, chosen.steady_minutes * 60 / _SWEEPS)
        self.replicas: list[Replica] = []

    async def start(self) -> Replica:
        """Start a replica."""
        port = free_port()
        options = ("--leader-elect", "--lease-namespace=userstorage-system", f"--sweep-period={self._sweep:.0f}")
        contender = operator(str(OPERATOR), f"--http-port={port}", *options)
        with (self._cluster.directory / "operator.log").open("a") as output:
            process = await asyncio.create_subprocess_exec(
                *contender.command, env={**os.environ, "KUBECONFIG": str(self._kubeconfig)}, stdout=output, stderr=output
            )
        self.replicas.append(Replica(process, port))
        return self.replicas[-1]

    def _cpu(self, replica: Replica) -> Cpu:
        return Cpu({"contender": replica.pid, **{name: self._cluster.processes[name] for name in SERVERS}})

    def _requests(self) -> Counter[str]:
        """Return the requests of the operator since the last call, without those for the lease.

        A list of one namespace has `in a namespace` after its name; those of a sweep are of the whole cluster.
        """
        names = (
            request.name + (_IN_A_NAMESPACE if request.verb == "list" and request.namespace else "")
            for request in self._log.read()
            if request.user == ACCOUNT
        )
        return Counter(name for name in names if _OF_LEASE not in name)

    async def create(self) -> None:
        """Create all objects at once."""
        [replica] = self.replicas
        await create_namespace(self._api, "warm-up")
        await create_until_ready(self._api, "warm-up", users(2, "warm-up"), timeout=120)
        await create_namespace(self._api, "bench")
        cpu = self._cpu(replica)
        await asyncio.to_thread(cpu.wait_until_quiet)
        stored = await self._etcd_size()
        cpu.reset()
        self._requests()
        line = await create_until_ready(self._api, "bench", users(self._objects), 7200, self._report)
        used = cpu.used()
        await asyncio.to_thread(cpu.wait_until_quiet, 600)
        requests = self._requests()
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
        [replica] = self.replicas
        cpu, seconds = self._cpu(replica), self._chosen.steady_minutes * 60
        await asyncio.to_thread(cpu.wait_until_quiet, 600)
        sweeps = value(await replica.metrics(), "userstorage_sweep_duration_seconds_count")
        cpu.reset()
        self._requests()
        start, highest = time.monotonic(), 0.0
        while (passed := time.monotonic() - start) < seconds:
            await asyncio.sleep(min(5, seconds - passed))
            highest = max(highest, memory(replica.pid)[0])
            self._report(f"steady for {passed / 60:.1f} of {seconds / 60:.0f} min, {highest:.0f} MiB{MORE}")
        used, requests = cpu.used(), self._requests()
        metrics = await replica.metrics()
        self._results.add(
            "steady",
            minutes=seconds / 60,
            sweeps=value(metrics, "userstorage_sweep_duration_seconds_count") - sweeps,
            sweep_period=self._sweep,
            writes=sum(count for name, count in requests.items() if is_write(name)),
            requests=dict(requests.most_common()),
            share_of_a_core=used["contender"] / seconds,
            apiserver_share_of_a_core=used["kube-apiserver"] / seconds,
            highest_memory=highest,
            loop_lag=value(metrics, "userstorage_loop_lag_seconds"),
        )

    async def restart(self) -> None:
        """Stop the operator and start it again."""
        old = self.replicas.pop()
        before, _ = memory(old.pid)
        await old.stop()
        self._requests()
        replica = await self.start()
        leading = await until(replica.leads)
        created = asyncio.create_task(create_until_ready(self._api, "warm-up", users(1, "restart"), timeout=600))
        await until(lambda: replica.has_checked(self._objects), every=0.5)
        checked = time.monotonic() - replica.started
        new = (await created).makespan
        cpu = self._cpu(replica)
        await asyncio.to_thread(cpu.wait_until_quiet)
        requests, (resident, peak) = self._requests(), memory(replica.pid)
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
        [old] = self.replicas
        standby = await self.start()
        await until(lambda: _answers(standby))
        await asyncio.sleep(5)
        idle, _ = memory(standby.pid)
        holder = (await self._api.request("GET", LEASE))["spec"]["holderIdentity"]
        self._requests()
        killed = time.monotonic()
        await old.stop(signal.SIGKILL)
        self.replicas.remove(old)

        async def taken() -> bool:
            return bool((await self._api.request("GET", LEASE))["spec"].get("holderIdentity") not in (holder, "", None))

        await until(taken, every=0.1)
        taken_over = time.monotonic()
        new = await create_until_ready(self._api, "warm-up", users(1, "failover"), timeout=600)
        await until(lambda: standby.has_checked(self._objects), every=0.5)
        checked = time.monotonic() - taken_over
        await asyncio.to_thread(self._cpu(standby).wait_until_quiet)
        requests, (resident, peak) = self._requests(), memory(standby.pid)
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

    async def crowd(self) -> None:
        """Roll out a class and resume its users, in an empty namespace and in one with many pods of others."""
        for namespace, pods in zip(_NAMESPACES, (0, self._chosen.pods_of_others), strict=True):
            await create_namespace(self._api, namespace)
            await self._create_pods(namespace, pods)
            await self._create_class(namespace)
            members = [
                obj | {"spec": {**obj["spec"], "className": namespace}} for obj in users(self._chosen.members, namespace)
            ]
            await create_until_ready(self._api, namespace, members, 1200, self._report)
            self._results.add(
                f"rollout in the {namespace} namespace", pods_of_others=pods, **await self._roll_out(namespace, members)
            )
            await self._scale(namespace, members, 0)
            self._results.add(
                f"resume in the {namespace} namespace", pods_of_others=pods, **await self._scale(namespace, members, 1)
            )

    async def _create_pods(self, namespace: str, count: int) -> None:
        container = {"name": "main", "image": "example.org/other:1"}
        path = f"/api/v1/namespaces/{namespace}/pods"
        pods: list[Object] = [
            {"metadata": {"name": f"other-{number}", "labels": {"app": "other"}}, "spec": {"containers": [container]}}
            for number in range(count)
        ]

        def running(event: Object) -> bool:
            return phase(event) == "Running"

        if pods:
            await follow(self._api, path, pods, lambda pod: self._api.request("POST", path, pod), running, 1200, self._report)

    async def _create_class(self, name: str) -> None:
        body = {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorageClass",
            "metadata": {"name": name},
            "spec": {"browser": {"image": _IMAGES[0]}, "rollout": {"maxUnavailable": "100%"}},
        }
        await self._api.request("POST", f"{USER_STORAGES}/userstorageclasses", body)

    async def _roll_out(self, namespace: str, members: list[Object]) -> dict[str, Any]:
        """Change the image of the class, and return what it cost until all members run it."""
        path, patch = f"{USER_STORAGES}/userstorageclasses/{namespace}", {"spec": {"browser": {"image": _IMAGES[1]}}}
        changed = False

        async def change(_: Object) -> None:
            nonlocal changed
            if not changed:
                changed = True
                await self._api.request("PATCH", path, patch, kind=_MERGE)

        def rolled_out(event: Object) -> bool:
            return is_ready(event) and event["object"]["status"].get("image") == _IMAGES[1]

        return await self._cost(namespace, members, change, rolled_out)

    async def _scale(self, namespace: str, members: list[Object], replicas: int) -> dict[str, Any]:
        """Suspend or resume all members, and return what it cost until all are suspended or Ready."""
        path, wanted = user_storages(namespace), ("Suspended", "Ready")[replicas]

        async def scale(obj: Object) -> None:
            await self._api.request("PATCH", f"{path}/{obj['metadata']['name']}", {"spec": {"replicas": replicas}}, kind=_MERGE)

        return await self._cost(namespace, members, scale, lambda event: phase(event) == wanted)

    async def _cost(
        self,
        namespace: str,
        members: list[Object],
        work: Callable[[Object], Awaitable[None]],
        reached: Callable[[Object], bool],
    ) -> dict[str, Any]:
        [replica] = self.replicas
        cpu = self._cpu(replica)
        await asyncio.to_thread(cpu.wait_until_quiet)
        cpu.reset()
        self._requests()
        line = await follow(self._api, user_storages(namespace), members, work, reached, 1200, self._report)
        used, metrics = cpu.used(), await replica.metrics()
        requests = self._requests()
        return {
            "members": len(members),
            "seconds": line.makespan,
            "cpu_ms_per_member": used["contender"] / len(members) * 1000,
            "lists_in_a_namespace": sum(count for name, count in requests.items() if name.endswith(_IN_A_NAMESPACE)),
            "loop_lag": value(metrics, "userstorage_loop_lag_seconds"),
            "requests": dict(requests.most_common()),
        }

    async def delete(self) -> None:
        """Delete all objects at once."""
        [replica] = self.replicas
        cpu = self._cpu(replica)
        await asyncio.to_thread(cpu.wait_until_quiet)
        cpu.reset()
        self._requests()
        line = await delete_until_gone(self._api, "bench", 7200, self._report)
        used, requests = cpu.used(), self._requests()
        self._results.add(
            "delete",
            seconds=line.makespan,
            rate=self._objects / line.makespan,
            cpu_ms_per_object=used["contender"] / self._objects * 1000,
            writes_per_object=sum(count for name, count in requests.items() if is_write(name)) / self._objects,
            requests=dict(requests.most_common()),
        )


async def _answers(replica: Replica) -> bool:
    return bool(await replica.metrics())


def _writes_beside_one(requests: Counter[str]) -> int:
    """Return the writes without those of one new object: what was written more often than once, and patches of other objects."""
    once = {
        "create networkpolicies", "create persistentvolumeclaims", "create services", "create pods", "create events",
        "patch userstorages", "patch userstorages/status",
    }  # fmt: skip
    return sum(count - (name in once) for name, count in requests.items() if is_write(name))


class Results:
    """The results of the parts so far, written after each."""

    def __init__(self, path: Path, repeat: str, report: Report) -> None:
        self._path = path
        self._about = {**versions(), "command": repeat}
        self._parts: dict[str, dict[str, Any]] = {}
        self._rounds: list[Round] = []
        self._report = report

    def add(self, part: str, **measured: Any) -> None:
        """Add the result of a part."""
        self._parts[part] = {name: round(one, 4) if isinstance(one, float) else one for name, one in measured.items()}
        shown = ", ".join(f"{name} {_shown(one)}" for name, one in measured.items() if not isinstance(one, dict))
        self._report(f"{part}: {shown}")
        self._save()

    def add_round(self, measured: Round) -> None:
        """Add the result of a smaller number of objects."""
        self._rounds.append(measured)
        self._report(f"{measured.objects} objects: {measured.created.cpu['contender'] / measured.objects * 1000:.1f} ms a CR")
        self._save()

    def _save(self) -> None:
        result = {**self._about, "rounds": [asdict(one) for one in self._rounds], "parts": self._parts}
        save(self._path, result, self.text())

    def text(self) -> str:
        """Return all results as a Markdown table."""
        about = self._about
        lines = [f"`{about['command']}` at commit {about['commit']}, {about['time']}, {about['machine']['cores']} cores.", ""]
        lines += ["| part | measured | value |", "|---|---|---|"]
        for measured in self._rounds:
            each = {
                "CPU per CR": f"{measured.created.cpu['contender'] / measured.objects * 1000:.1f} ms",
                "CPU per deletion": f"{measured.deleted.cpu['contender'] / measured.objects * 1000:.1f} ms",
                "CRs a second, to Ready": f"{measured.objects / measured.created.makespan:.1f}",
                "memory": f"{measured.memory:.0f} MiB",
            }
            lines += [
                f"| {measured.objects} objects on a cluster of their own | {name} | {one} |" for name, one in each.items()
            ]
        for part, results in self._parts.items():
            for name, one in results.items():
                shown = ", ".join(f"{key}: {count}" for key, count in one.items()) if isinstance(one, dict) else _shown(one)
                lines.append(f"| {part} | {name.replace('_', ' ')} | {shown} |")
        if "create" in self._parts and self._rounds:
            small = self._rounds[0]
            ratio = self._parts["create"]["cpu_ms_per_object"] / (small.created.cpu["contender"] / small.objects * 1000)
            lines.append(f"| growth | CPU per object, to that with {small.objects} objects | {ratio:.2f} |")
        for part in ("rollout", "resume"):
            found = [self._parts.get(f"{part} in the {namespace} namespace") for namespace in _NAMESPACES]
            times = [one["seconds"] for one in found if one is not None]
            if len(times) == len(_NAMESPACES):
                lines.append(
                    f"| {part} | seconds in the crowded namespace, to those in the empty one | {times[1] / times[0]:.2f} |"
                )
        return "\n".join(lines)


def _shown(measured: Any) -> str:
    return f"{measured:.3g}" if isinstance(measured, float) and measured < 1000 else str(measured)


@contextlib.asynccontextmanager
async def _running(cluster: Cluster, chosen: argparse.Namespace, results: Results, report: Report) -> AsyncIterator[Scale]:
    async with connect(cluster) as api:
        scale = Scale(cluster, api, chosen, results, report)
        try:
            await until((await scale.start()).leads)
            yield scale
        finally:
            for replica in scale.replicas:
                await replica.stop(signal.SIGKILL)


async def run(cluster: Cluster, chosen: argparse.Namespace, results: Results, report: Report) -> None:
    """Run the parts. A part that fails ends the run; the results before it are written."""
    async with _running(cluster, chosen, results, report) as scale:
        for part in (scale.create, scale.steady, scale.restart, scale.failover, scale.crowd, scale.delete):
            report(f"part: {part.__doc__}")
            await part()


def main() -> None:
    """Measure small numbers of objects for comparison, then all parts; print the results."""
    parser = argparse.ArgumentParser(prog="make bench-scale BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--sizes", default="500,1000,3000", help="smaller numbers, each on a cluster of its own; may be empty")
    parser.add_argument("--steady-minutes", type=float, default=10)
    parser.add_argument("--pods-of-others", type=int, default=3000, help="in the crowded namespace")
    parser.add_argument("--members", type=int, default=300, help="users that are rolled out and resumed")
    parser.add_argument("--output", type=Path, help="file for the result, without suffix; by default in benchmarks/results")
    chosen = parser.parse_args()
    report = Console()
    path = chosen.output or new_result("scale")
    results = Results(path, command("bench-scale", sys.argv[1:]), report)
    contender = Contender.parse("operator", report)
    for size in filter(None, chosen.sizes.split(",")):
        with new_cluster() as cluster:
            results.add_round(asyncio.run(measure(contender, int(size), cluster)))
    with new_cluster(report=report) as cluster:
        asyncio.run(run(cluster, chosen, results, report))
    print(results.text())


if __name__ == "__main__":
    main()
