"""The kubectl plugin with many UserStorages: how long `list` and `top` take, from the API server and from the read API.

The UserStorages are paused and have the status of Ready ones, so that the operator, which answers the read API, does not work for
them. Times are of whole processes, start included, the median of several. Run: `make bench-plugin`.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from measuring import ROOT, command, new_result, save, versions
from read_api_workload import run

import localcluster
from localcluster.addresses import free_port
from localcluster.progress import Console
from userstorage_operator.api.resources import USER_STORAGES
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import login

_AT_ONCE = 16
_ROUNDS = 5
_NAMESPACES = 10
_HEAD = "| asked | time | of a core |\n|---|---|---|"
_SINCE = "2026-01-01T00:00:00Z"
_CONDITIONS = {
    "Ready": ("True", "PodReady"),
    "StorageReady": ("True", "ClaimBound"),
    "PodUpToDate": ("True", "UpToDate"),
    "NetworkReady": ("True", "Synced"),
    "Suspended": ("False", "Running"),
    "Reconciling": ("False", "Done"),
    "Stalled": ("False", "NotStalled"),
}


async def create_users(client: KubeClient, count: int) -> None:
    """Create the UserStorages with their status."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def create(number: int) -> None:
        name, namespace = f"user-{number:05}", f"bench-{number % _NAMESPACES}"
        meta = {"name": name, "annotations": {"userstorage.dev/paused": "true"}}
        body = {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorage",
            "metadata": meta,
            "spec": {"userID": f"{name}@example.org"},
        }
        conditions = [
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": f"as the operator says of {kind}",
                "lastTransitionTime": _SINCE,
            }
            for kind, (status, reason) in _CONDITIONS.items()
        ]
        status = {
            "observedGeneration": 1,
            "phase": "Ready",
            "replicas": 1,
            "conditions": conditions,
            "podName": f"user-storage-{name}",
            "url": f"https://{name}.files.example.org/",
            "nodeName": f"node-{number % 50}",
            "storage": {"claimName": f"user-storage-{name}", "capacity": "10Gi", "usedPercent": number % 100},
        }
        async with limit:
            await client.create(USER_STORAGES, namespace, body)
            await client.merge_patch(USER_STORAGES, namespace, name, {"status": status}, subresource="status")

    await asyncio.gather(*(create(number) for number in range(count)))


class Cost(NamedTuple):
    """Medians of several runs of a command."""

    seconds: float
    cpu: float
    """Seconds of a core, for the process alone: the part of `seconds` that a busy machine does not change."""


def cost_of(command: list[str], expected: int) -> Cost:
    """Measure a command, whose output has at least `expected` lines."""
    runs = []
    for _ in range(_ROUNDS):
        began, used = time.perf_counter(), _cpu_of_children()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append(Cost(time.perf_counter() - began, _cpu_of_children() - used))
        if len(done.stdout.splitlines()) < expected:
            raise RuntimeError(f"{command} has fewer than {expected} lines: {done.stdout[-500:]}")
    return Cost(statistics.median(run.seconds for run in runs), statistics.median(run.cpu for run in runs))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def until_complete(port: int, token: str, count: int) -> None:
    """Wait until the read API has all UserStorages."""
    last = f"user-{count - 1:05}%40example.org"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/users/{last}", headers={"Authorization": f"Bearer {token}"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10):  # noqa: S310  # http, above
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)


async def prepare(count: int, cluster: localcluster.Cluster) -> str:
    """Install the CRDs, create the UserStorages, and return a token that may read them."""
    kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}"]
    for folder in ("crds", "rbac"):
        await run([*kubectl, "apply", "-k", str(ROOT / "deploy" / folder)])
    await run([*kubectl, "wait", "--for=condition=Established", "crd/userstorages.userstorage.dev", "--timeout=60s"])
    for number in range(_NAMESPACES):
        await run([*kubectl, "create", "namespace", f"bench-{number}"])
    await run([*kubectl, "create", "serviceaccount", "backend", "-n", "default"])
    role = ["--clusterrole=userstorage-view", "--serviceaccount=default:backend"]
    await run([*kubectl, "create", "clusterrolebinding", "backend", *role])
    token = (await run([*kubectl, "create", "token", "backend", "-n", "default"])).strip()
    client = KubeClient(await login(), NoopObserver())
    await create_users(client, count)
    await client.close()
    return token


def measure(count: int, cluster: localcluster.Cluster, token: str, report: Console) -> dict[str, Cost]:
    """Return costs by what was asked."""
    kubectl = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}"]
    token_file = cluster.directory / "token"
    token_file.write_text(token)
    plugin = str(Path(sys.executable).with_name("kubectl-userstorage"))
    found = {}
    report("ask the API server")
    for name, arguments, lines in (
        ("list -A", ["list", "-A"], count),
        ("list -n", ["list", "-n", "bench-0"], count // _NAMESPACES),
        ("top -A", ["top", "-A"], 20),
    ):
        found[f"{name}, API server"] = cost_of([plugin, *arguments], lines)
    found["kubectl get -A, to compare"] = cost_of([*kubectl, "get", "userstorages", "-A"], count)
    report("ask the read API")
    port = free_port("127.0.0.1")
    operator = [
        str(Path(sys.executable).with_name("userstorage-operator")),
        "run",
        f"--http-port={port}",
        "--log-level=warning",
    ]
    with subprocess.Popen(operator, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until_complete(port, token, count)
            time.sleep(15)  # the operator still writes the condition Paused
            options = [f"--read-api=http://127.0.0.1:{port}", f"--read-api-token-file={token_file}"]
            found["list -A, read API"] = cost_of([plugin, "list", "-A", *options], count)
            found["top -A, read API"] = cost_of([plugin, "top", "-A", *options], 20)
        finally:
            process.terminate()
    return found


def main() -> None:
    """Measure, print the table, and write the result."""
    parser = argparse.ArgumentParser(prog="make bench-plugin BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    chosen = parser.parse_args()
    report = Console()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        cluster = localcluster.start("control-plane", Path(directory), report=report)
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        try:
            report(f"create {chosen.objects} UserStorages")
            found = measure(chosen.objects, cluster, asyncio.run(prepare(chosen.objects, cluster)), report)
        finally:
            localcluster.stop(Path(directory))
    rows = [f"| {name} | {cost.seconds:.2f} s | {cost.cpu:.2f} s |" for name, cost in found.items()]
    repeat, about, text = command("bench-plugin", sys.argv[1:]), versions(), "\n".join([_HEAD, *rows])
    print(text)
    result = {
        **about,
        "command": repeat,
        "objects": chosen.objects,
        "rounds": _ROUNDS,
        "seconds": {name: round(cost.seconds, 3) for name, cost in found.items()},
        "cpu_seconds": {name: round(cost.cpu, 3) for name, cost in found.items()},
        "load_before": round(load, 2),
    }
    save(new_result("plugin"), result, f"`{repeat}` at commit {about['commit']}\n\n{text}")


if __name__ == "__main__":
    main()
