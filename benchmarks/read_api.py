"""The read API under load: a replica that answers from Redis and the leader, which answers from its watch, one after the other.

All of it shares one machine: API server, etcd, Redis, two operators, the load generator and this harness, so the table says
what each of them took. The control plane, which has machines of its own elsewhere, gives way to the others (nice 10): what is
measured is how long an answer takes, not how long it waits for a processor that an API server has. Run: `make bench-read-api`.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import aiohttp
from constant_rate import Answered, attack
from read_api_world import NAMESPACES, World, lists, run, url_mix
from side_by_side import RESULTS, ROOT, cpu_seconds

import localcluster
from localcluster.addresses import free_port
from localcluster.progress import Console
from testservers.redis import RedisServer

_SETTLED = 15.0
"""Seconds from the last object's readiness to the first question: Events are still written, and memory is tidied up."""
_KINDS = {"one": "/userstorages/user", "by user": "/v1/users/", "list of 100": "/v1/userstorages?"}


@dataclass(frozen=True)
class Measured:
    """One run. Seconds but for `cpu`, which is shares of one core, and for the counts."""

    answers: str
    requests: int
    statuses: dict[int, int]
    p50: float
    p99: float
    worst: float
    p99_by_kind: dict[str, float]
    changes: int
    told_after_p50: float
    told_after_worst: float
    age_header_worst: int
    lists: dict[str, int]
    cpu: dict[str, float]
    load_before: float


def percentile(seconds: list[float], share: float) -> float:
    """The value that so many are not above."""
    return sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * share))] if seconds else 0.0


async def measure(
    name: str, port: int, world: World, pids: dict[str, int], rate: int, seconds: int, directory: Path
) -> Measured:
    """One run against the replica at `port`."""
    base, load = f"http://127.0.0.1:{port}", os.getloadavg()[0]
    generator = asyncio.to_thread(attack, url_mix(base), world.token, rate, seconds, directory, Console())
    before = await lists(world.kubectl)
    cpu, own = {name: cpu_seconds(pid) for name, pid in pids.items()}, cpu_seconds(os.getpid())
    changing = asyncio.create_task(world.change(base))
    try:
        done = await generator
    finally:
        changing.cancel()
        [ended] = await asyncio.gather(changing, return_exceptions=True)
    if isinstance(ended, Exception):
        raise ended
    spent = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
    spent |= {"generator": done.cpu, "harness": cpu_seconds(os.getpid()) - own}
    took, told = [one.seconds for one in done.answered], world.told_after
    return Measured(
        answers=name,
        requests=len(took),
        statuses=dict(Counter(one.status for one in done.answered)),
        p50=percentile(took, 0.5),
        p99=percentile(took, 0.99),
        worst=max(took),
        p99_by_kind={kind: percentile(_of_kind(done.answered, part), 0.99) for kind, part in _KINDS.items()},
        changes=world.changes,
        told_after_p50=percentile(told, 0.5),
        told_after_worst=max(told),
        age_header_worst=world.age_header,
        lists=dict((await lists(world.kubectl)) - before),
        cpu={name: round(used / seconds, 2) for name, used in spent.items()},
        load_before=round(load, 2),
    )


def _of_kind(answered: list[Answered], part: str) -> list[float]:
    return [one.seconds for one in answered if part in one.url]


def table(runs: list[Measured]) -> str:
    """As Markdown."""
    lines = [
        "| answered by | requests | not 200 | p50 | p99 | worst | change told after (p50, worst) | Age | LISTs | CPU of it |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run.answers} | {run.requests} | {run.requests - run.statuses.get(200, 0)} | {run.p50 * 1000:.1f} ms "
        f"| {run.p99 * 1000:.1f} ms | {run.worst * 1000:.0f} ms | {run.told_after_p50:.2f} s, {run.told_after_worst:.2f} s "
        f"| {run.age_header_worst} s | {run.lists.get('userstorages', 0)} | {run.cpu[run.answers]:.2f} |"
        for run in runs
    ]
    for one in runs:
        p99 = ", ".join(f"{kind} {seconds * 1000:.1f} ms" for kind, seconds in one.p99_by_kind.items())
        cpu = ", ".join(f"{name} {share:.2f}" for name, share in one.cpu.items())
        lines.append(f"\n{one.answers}: p99 {p99}; {one.changes} changes; cores {cpu}; load before {one.load_before}")
    return "\n".join(lines)


async def compare(
    chosen: argparse.Namespace, cluster: localcluster.Cluster, redis: RedisServer, report: Console
) -> list[Measured]:
    """Both runs."""
    kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}"]
    for folder in ("crds", "rbac"):
        await run([*kubectl, "apply", "-k", str(ROOT / "deploy" / folder)])
    ports = [free_port("127.0.0.1") for _ in range(2)]
    command = [str(Path(sys.executable).with_name("userstorage-operator")), "run", "--leader-elect", "--log-level=warning"]
    command += ["--lease-namespace=default", f"--redis-url={redis.url}"]
    with ExitStack() as stack:
        operators: dict[int, subprocess.Popen[bytes]] = {}
        for port in ports:
            log = stack.enter_context((cluster.directory / f"operator-{port}.log").open("wb"))
            operators[port] = _operator([*command, f"--http-port={port}"], log)
            stack.callback(operators[port].wait)
            stack.callback(operators[port].terminate)
        world = await World.make(kubectl, chosen.objects // NAMESPACES, report)
        for pid in cluster.processes.values():
            _give_way(pid)
        await asyncio.sleep(_SETTLED)
        leader = await _leader(ports)
        roles = {"replica (Redis)": next(port for port in ports if port != leader), "leader (watch)": leader}
        pids = {name: operators[port].pid for name, port in roles.items()}
        pids |= cluster.processes | {"redis": int(redis.cli("info", "server").split("process_id:")[1].split()[0])}
        runs = []
        try:
            for name, port in roles.items():
                report(f"{name}: {chosen.rate} requests a second for {chosen.seconds} s")
                runs.append(await measure(name, port, world, pids, chosen.rate, chosen.seconds, cluster.directory))
        finally:
            await world.client.close()
        return runs


def _operator(command: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=log, stderr=log)


def _give_way(pid: int) -> None:
    """A process gets less of the processor than others. Each thread of it has that for itself, and new ones inherit it; where the
    kernel shares processors among sessions (sched_autogroup_enabled), only what is said of the session counts.
    """
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.setpriority(os.PRIO_PROCESS, int(thread.name), 10)
    if (session := Path(f"/proc/{pid}/autogroup")).exists():
        session.write_text("10")


async def _leader(ports: list[int]) -> int:
    """The port of the one that leads and has its first lists."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            for port in ports:
                async with session.get(f"http://127.0.0.1:{port}/ready") as response:
                    if (await response.json())["role"] == "leading" and response.status == 200:
                        return port
            await asyncio.sleep(0.2)


def main() -> None:
    """Run both, print the table, keep the result."""
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
    print(table(runs))
    now = datetime.now(UTC)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    result = {
        "time": now.isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "machine": {"cores": os.cpu_count(), "platform": platform.machine(), "python": platform.python_version()},
        "objects": chosen.objects,
        "rate": chosen.rate,
        "seconds": chosen.seconds,
        "table": table(runs).splitlines(),
        "runs": [asdict(run) for run in runs],
    }
    (RESULTS / f"read-api-{now:%Y%m%d-%H%M%S}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
