"""The read API under load: a standby replica, which answers from Redis, and the leader, which answers from its watch.

API server, etcd, Redis, two operators, the load generator and this harness share one machine, so the table has the CPU time of
each. The control plane, which has its own machines in production, runs at nice 10: otherwise the latency would include the wait
for a processor that the API server uses. Run: `make bench-read-api`.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import aiohttp
from constant_rate import Response, generate_load
from measuring import ROOT, command, cpu_seconds, new_result, save, versions
from read_api_workload import NAMESPACES, Workload, lists, run, url_mix

import localcluster
from localcluster.addresses import free_port
from localcluster.progress import Console
from testservers.redis import RedisServer

_SETTLE_SECONDS = 15.0
"""Seconds between the readiness of the last object and the first request: the operator still writes Events."""
_KINDS = {"one": "/userstorages/user", "by user": "/v1/users/", "list of 100": "/v1/userstorages?"}


@dataclass(frozen=True)
class Measurement:
    """The result of one run. Times are in seconds; `cpu` is in cores."""

    answered_by: str
    requests: int
    statuses: dict[int, int]
    p50: float
    p99: float
    worst: float
    p99_by_kind: dict[str, float]
    changes: int
    visible_after_p50: float
    visible_after_worst: float
    age_header_worst: int
    lists: dict[str, int]
    cpu: dict[str, float]
    load_before: float


def percentile(seconds: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; 0 if there are none."""
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] if seconds else 0.0


async def measure(
    name: str, port: int, workload: Workload, pids: dict[str, int], rate: int, seconds: int, directory: Path
) -> Measurement:
    """Measure one run against the replica at `port`."""
    base, load = f"http://127.0.0.1:{port}", os.getloadavg()[0]
    headers = [{"Authorization": f"Bearer {workload.token}"}]
    generator = asyncio.to_thread(generate_load, url_mix(base), headers, rate, seconds, directory, Console())
    before = await lists(workload.kubectl)
    cpu, own = {name: cpu_seconds(pid) for name, pid in pids.items()}, cpu_seconds(os.getpid())
    changing = asyncio.create_task(workload.change(base))
    try:
        result = await generator
    finally:
        changing.cancel()
        [ended] = await asyncio.gather(changing, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended
    spent = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
    spent |= {"generator": result.cpu, "harness": cpu_seconds(os.getpid()) - own}
    durations, delays = [one.seconds for one in result.responses], workload.visible_after
    return Measurement(
        answered_by=name,
        requests=len(durations),
        statuses=dict(Counter(one.status for one in result.responses)),
        p50=percentile(durations, 0.5),
        p99=percentile(durations, 0.99),
        worst=max(durations),
        p99_by_kind={kind: percentile(_of_kind(result.responses, part), 0.99) for kind, part in _KINDS.items()},
        changes=workload.changes,
        visible_after_p50=percentile(delays, 0.5),
        visible_after_worst=max(delays),
        age_header_worst=workload.age_header,
        lists=dict((await lists(workload.kubectl)) - before),
        cpu={name: round(used / seconds, 2) for name, used in spent.items()},
        load_before=round(load, 2),
    )


def _of_kind(responses: list[Response], part: str) -> list[float]:
    return [one.seconds for one in responses if part in one.url]


def table(runs: list[Measurement]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| answered by | requests | not 200 | p50 | p99 | worst | change visible after (p50, worst) | Age | LISTs | CPU of it |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run.answered_by} | {run.requests} | {run.requests - run.statuses.get(200, 0)} | {run.p50 * 1000:.1f} ms "
        f"| {run.p99 * 1000:.1f} ms | {run.worst * 1000:.0f} ms | {run.visible_after_p50:.2f} s, {run.visible_after_worst:.2f} s "
        f"| {run.age_header_worst} s | {run.lists.get('userstorages', 0)} | {run.cpu[run.answered_by]:.2f} |"
        for run in runs
    ]
    for one in runs:
        p99 = ", ".join(f"{kind} {seconds * 1000:.1f} ms" for kind, seconds in one.p99_by_kind.items())
        cpu = ", ".join(f"{name} {share:.2f}" for name, share in one.cpu.items())
        lines.append(f"\n{one.answered_by}: p99 {p99}; {one.changes} changes; cores {cpu}; load before {one.load_before}")
    return "\n".join(lines)


async def compare(
    chosen: argparse.Namespace, cluster: localcluster.Cluster, redis: RedisServer, report: Console
) -> list[Measurement]:
    """Start the operators and the workload, and measure both runs."""
    kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}"]
    for folder in ("crds", "rbac"):
        await run([*kubectl, "apply", "-k", str(ROOT / "deploy" / folder)])
    ports = [free_port("127.0.0.1") for _ in range(2)]
    program = [str(Path(sys.executable).with_name("userstorage-operator")), "run", "--leader-elect", "--log-level=warning"]
    program += ["--lease-namespace=default", f"--redis-url={redis.url}"]
    with ExitStack() as stack:
        operators: dict[int, subprocess.Popen[bytes]] = {}
        for port in ports:
            log = stack.enter_context((cluster.directory / f"operator-{port}.log").open("wb"))
            operators[port] = _operator([*program, f"--http-port={port}"], log)
            stack.callback(operators[port].wait)
            stack.callback(operators[port].terminate)
        workload = await Workload.create(kubectl, chosen.objects // NAMESPACES, report)
        for pid in cluster.processes.values():
            lower_priority(pid)
        await asyncio.sleep(_SETTLE_SECONDS)
        leader = await _leader(ports)
        roles = {"replica (Redis)": next(port for port in ports if port != leader), "leader (watch)": leader}
        pids = {name: operators[port].pid for name, port in roles.items()}
        pids |= cluster.processes | {"redis": int(redis.cli("info", "server").split("process_id:")[1].split()[0])}
        runs = []
        try:
            for name, port in roles.items():
                report(f"{name}: {chosen.rate} requests a second for {chosen.seconds} s")
                runs.append(await measure(name, port, workload, pids, chosen.rate, chosen.seconds, cluster.directory))
        finally:
            await workload.client.close()
        return runs


def _operator(program: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(program, stdout=log, stderr=log)


def lower_priority(pid: int) -> None:
    """Set all threads of a process to nice 10; new threads inherit it.

    If the kernel groups processes by session (sched_autogroup_enabled), only the value of the session has an effect.
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 10)
    if (session := Path(f"/proc/{pid}/autogroup")).exists():
        session.write_text("10")


async def _leader(ports: list[int]) -> int:
    """Wait until a replica is the ready leader and return its port."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            for port in ports:
                async with session.get(f"http://127.0.0.1:{port}/ready") as response:
                    if (await response.json())["role"] == "leading" and response.status == 200:
                        return port
            await asyncio.sleep(0.2)


def main() -> None:
    """Run both, print the table and save the result."""
    parser = argparse.ArgumentParser(prog="make bench-read-api BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=int, default=60)
    chosen = parser.parse_args()
    report = Console()
    with tempfile.TemporaryDirectory(prefix="userstorage-bench-") as directory:
        cluster = localcluster.start("control-plane", Path(directory), report)
        redis = RedisServer(Path(directory) / "redis").start(report)
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        try:
            runs = asyncio.run(compare(chosen, cluster, redis, report))
        finally:
            redis.stop()
            localcluster.stop(Path(directory))
    repeat, about, text = command("bench-read-api", sys.argv[1:]), versions(), table(runs)
    print(text)
    result = {**about, "command": repeat, "runs": [asdict(run) for run in runs]}
    save(new_result("read-api"), result, f"`{repeat}` at commit {about['commit']}\n\n{text}")


if __name__ == "__main__":
    main()
