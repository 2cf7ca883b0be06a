"""The operator and a plain Go controller (`peer/`), in turn and with the same work.

Only ratios mean something: one machine also runs etcd, the API server, the controller manager, the scheduler, kwok and this
harness. Each round has a new cluster, and the contenders alternate.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from apiserver import ApiServer, connect
from contenders import Contender, login, new_cluster, running
from load import create_namespace, create_until_ready, delete_until_gone, users
from measuring import AuditLog, Cpu, command, is_write, memory, new_result, save, versions

from localcluster import Cluster
from localcluster.progress import Console, Report

SERVERS = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kwok")


@dataclass(frozen=True)
class Part:
    """One half of a round: all objects are created, or deleted.

    Times are in seconds. CPU is in seconds of one core by process, and is counted twice: until the last object is Ready or
    gone, and until nothing is left to do. Requests are those of the contender, by name, until nothing is left to do.
    """

    makespan: float
    p50: float
    p99: float
    first_tenth: float
    cpu: dict[str, float]
    cpu_until_quiet: dict[str, float]
    requests: dict[str, int]
    writes_of_others: int

    @property
    def writes(self) -> int:
        """Writes of the contender."""
        return sum(count for name, count in self.requests.items() if is_write(name))

    @property
    def cpu_of_all(self) -> float:
        """CPU of the contender and the cluster until the last object is Ready or gone."""
        return sum(self.cpu[name] for name in ("contender", *SERVERS))


@dataclass(frozen=True)
class Round:
    """The result of one contender in one round. Memory in MiB: after the creation, and at its peak.

    `children` has what a contender has created for one user, by kind, to compare it between contenders.
    """

    contender: str
    objects: int
    created: Part
    deleted: Part
    memory: float
    peak_memory: float
    children: dict[str, Any]


CHILDREN = {
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/bench/networkpolicies",
    "PersistentVolumeClaim": "/api/v1/namespaces/bench/persistentvolumeclaims",
    "Service": "/api/v1/namespaces/bench/services",
    "Pod": "/api/v1/namespaces/bench/pods",
}
_VOLATILE = ("clusterIP", "clusterIPs", "nodeName", "volumeName")
"""Fields of specs that the cluster fills in."""


async def children(api: ApiServer) -> dict[str, Any]:
    """Return labels, annotations, finalizers, owners and spec of the children of one user, by kind, without what always differs."""
    found = {}
    for kind, path in CHILDREN.items():
        child = await api.request("GET", f"{path}/user-storage-user-0")
        meta = child["metadata"]
        kept = {field: meta.get(field) for field in ("labels", "annotations", "finalizers", "ownerReferences")}
        kept["spec"] = {field: value for field, value in child["spec"].items() if field not in _VOLATILE}
        text = json.dumps(kept, sort_keys=True)
        for uid in (owner["uid"] for owner in meta.get("ownerReferences") or ()):
            text = text.replace(uid, "UID")
        found[kind] = json.loads(re.sub(r'(-hash": ")[0-9a-f]+', r"\1HASH", text))
    return found


def differences(rounds: list[Round]) -> str:
    """Return in which children the contenders differ, as a sentence."""
    kinds = {
        kind for kind in CHILDREN if len({json.dumps(measured.children.get(kind), sort_keys=True) for measured in rounds}) > 1
    }
    if kinds:
        return f"The contenders create different children: {', '.join(sorted(kinds))}."
    return "The children of all contenders are equal but for uids and hashes."


async def measure(contender: Contender, objects: int, cluster: Cluster) -> Round:
    """Measure one round on a new cluster."""
    kubeconfig = login(cluster)
    async with connect(cluster) as api:
        with running(contender, kubeconfig, cluster.directory / "contender.log") as process:
            pids = {"contender": process.pid, **{name: cluster.processes[name] for name in SERVERS}}
            cpu, log = Cpu(pids), AuditLog(cluster)
            # The start of the contender is no part of the measurement, and neither are its first connections.
            await create_namespace(api, "warm-up")
            await create_until_ready(api, "warm-up", users(2, "warm-up"), timeout=120)
            await create_namespace(api, "bench")

            async def part(work: Callable[[], Any]) -> Part:
                await asyncio.to_thread(cpu.wait_until_quiet)
                log.skip()
                cpu.reset()
                line = await work()
                used = cpu.used()
                await asyncio.to_thread(cpu.wait_until_quiet)
                requests, others = log.count()
                return Part(
                    makespan=round(line.makespan, 3),
                    p50=round(line.percentile(50), 3),
                    p99=round(line.percentile(99), 3),
                    first_tenth=round(line.after(0.1), 3),
                    cpu=used,
                    cpu_until_quiet=cpu.used(),
                    requests=dict(requests.most_common()),
                    writes_of_others=others,
                )

            created = await part(lambda: create_until_ready(api, "bench", users(objects)))
            held, _ = memory(process.pid)
            created_children = await children(api)
            deleted = await part(lambda: delete_until_gone(api, "bench"))
            return Round(contender.name, objects, created, deleted, held, memory(process.pid)[1], created_children)


Row = tuple[str, str, Callable[[Round], float]]
"""Title, format and value of a row."""


def _of(part: str, measured: Callable[[Part, int], float]) -> Callable[[Round], float]:
    """Return the value of one part of a round, from the part and the number of objects."""
    return lambda r: measured(getattr(r, part), r.objects)


def _cpu(part: str, process: str) -> Callable[[Round], float]:
    return _of(part, lambda p, objects: p.cpu[process] / objects * 1000)


def _requests(part: str, counts: Callable[[str], bool]) -> Callable[[Round], float]:
    return _of(part, lambda p, objects: sum(count for name, count in p.requests.items() if counts(name)) / objects)


def _rows(rounds: list[Round]) -> list[Row]:
    rows: list[Row] = []
    for part, what, state in (("created", "CR", "Ready"), ("deleted", "deletion", "gone")):
        cpu = f"CPU per {what}"
        rows += [
            (f"{what}s a second, to {state}", "{:.1f}", _of(part, lambda p, objects: objects / p.makespan)),
            (f"p50 to {state}", "{:.1f} s", _of(part, lambda p, _: p.p50)),
            (f"p99 to {state}", "{:.1f} s", _of(part, lambda p, _: p.p99)),
            (f"last one {state} after", "{:.1f} s", _of(part, lambda p, _: p.makespan)),
            (f"first tenth {state} after", "{:.1f} s", _of(part, lambda p, _: p.first_tenth)),
            (f"{cpu}: contender", "{:.1f} ms", _cpu(part, "contender")),
            (
                f"{cpu}: contender, until it is quiet",
                "{:.1f} ms",
                _of(part, lambda p, objects: p.cpu_until_quiet["contender"] / objects * 1000),
            ),
            *((f"{cpu}: {name}", "{:.1f} ms", _cpu(part, name)) for name in SERVERS),
            (f"{cpu}: all of these", "{:.1f} ms", _of(part, lambda p, objects: p.cpu_of_all / objects * 1000)),
            (f"{cpu}: harness", "{:.1f} ms", _cpu(part, "harness")),
            (f"{cpu}: elsewhere on the machine", "{:.1f} ms", _cpu(part, "elsewhere")),
            (f"requests per {what}", "{:.2f}", _requests(part, lambda _: True)),
            (f"writes per {what}", "{:.2f}", _of(part, lambda p, objects: p.writes / objects)),
        ]
        names = {name for measured in rounds for name in getattr(measured, part).requests}
        rows += [(f"per {what}: {name}", "{:.2f}", _requests(part, name.__eq__)) for name in sorted(names)]
        rows.append(
            (f"writes of other clients per {what}", "{:.2f}", _of(part, lambda p, objects: p.writes_of_others / objects))
        )
    rows.append(("memory after the creation", "{:.0f} MiB", lambda r: r.memory))
    rows.append(("peak memory", "{:.0f} MiB", lambda r: r.peak_memory))
    return rows


def table(rounds: list[Round]) -> str:
    """Return the medians of the rounds as Markdown: a table for each number of objects, with the ratios to the last contender."""
    lines = []
    for objects in dict.fromkeys(measured.objects for measured in rounds):
        of_size = [measured for measured in rounds if measured.objects == objects]
        names = list(dict.fromkeys(measured.contender for measured in of_size))
        head = [f"{objects} objects, medians", *names, *(f"{name} / {names[-1]}" for name in names[:-1])]
        lines += ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for title, shown, value in _rows(of_size):
            values = [median(value(measured) for measured in of_size if measured.contender == name) for name in names]
            ratios = [f"{one / values[-1]:.2f}" if values[-1] else "" for one in values[:-1]]
            lines.append(f"| {' | '.join([title, *(shown.format(one) for one in values), *ratios])} |")
    return "\n".join(lines)


def result(rounds: list[Round], repeat: str, about: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return a result as JSON and as Markdown."""
    machine, text = about["machine"], table(rounds)
    head = f"`{repeat}` at commit {about['commit']}, {about['time']}, {machine['cores']} cores ({machine['model']}, {machine['memory']})"
    return {
        **about,
        "command": repeat,
        "rounds": [asdict(measured) for measured in rounds],
    }, f"{head}\n{text}\n\n{differences(rounds)}"


def run(contenders: list[Contender], sizes: list[int], rounds: int, path: Path, report: Report) -> str:
    """Run all rounds; save and return the result so far after each."""
    repeat, about = command("bench", sys.argv[1:]), versions()
    done: list[Round] = []
    text = ""
    for objects in sizes:
        for number in range(rounds):
            for contender in contenders:
                with new_cluster(contender.kustomizations) as cluster:
                    done.append(asyncio.run(measure(contender, objects, cluster)))
                created = done[-1].created
                report(
                    f"{objects} objects, round {number + 1} of {rounds}, {contender.name}: {objects / created.makespan:.1f} CRs/s, "
                    f"p50 {created.p50:.1f} s, {created.cpu['contender'] / objects * 1000:.1f} ms a CR, "
                    f"{done[-1].deleted.cpu['contender'] / objects * 1000:.1f} ms a deletion, {done[-1].peak_memory:.0f} MiB"
                )
                saved, text = result(done, repeat, about)
                save(path, saved, text)
    return text


def main() -> None:
    """Run the rounds, print the table and save the result."""
    parser = argparse.ArgumentParser(prog="make bench BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", default="500", help="numbers of objects, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--contenders",
        default="operator,peer",
        help="operator, peer, peer-json, or NAME=PATH of the command userstorage-operator of another tree, separated by commas; each may be "
        "followed by +DIRECTORY, a kustomization for its clusters, such as +deploy/finalizer",
    )
    parser.add_argument("--output", type=Path, help="file for the result, without suffix; by default in benchmarks/results")
    chosen = parser.parse_args()
    report = Console()
    contenders = [Contender.parse(text, report) for text in chosen.contenders.split(",")]
    sizes = [int(size) for size in chosen.objects.split(",")]
    path = chosen.output or new_result("side-by-side")
    print(run(contenders, sizes, chosen.rounds, path, report))


if __name__ == "__main__":
    main()
