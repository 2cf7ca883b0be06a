"""How long the new UserStorage of one tenant takes to become Ready while another tenant has thousands.

Each crowd gets a cluster of its own, on which the operator has just started. Pods and claims are run by kwok. The figures are those of
one machine that also runs etcd, the API server, kwok and this harness.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import localcluster
from localcluster.addresses import free_port
from localcluster.progress import Console
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient
from userstorage_operator.kube.login import login
from userstorage_operator.runtime.metrics import Metrics

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
CROWDS: dict[str, Callable[[int], Unstructured]] = {
    "on one claim that does not exist": lambda number: {"userID": f"u{number}", "storage": {"claimName": "x"}},
    "with one user id": lambda _: {"userID": "one"},
    "in one full class": lambda number: {"userID": f"u{number}", "className": "full"},
    "new": lambda number: {"userID": f"u{number}"},
}
_AT_ONCE = 16
_TIMEOUT = 600


def storage(name: str, spec: Unstructured) -> Unstructured:
    """Return a UserStorage to create."""
    return {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage", "metadata": {"name": name}, "spec": spec}


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(_TIMEOUT):
        while not await condition():  # noqa: ASYNC110  # the condition is read from the API server
            await asyncio.sleep(0.05)


async def measure(crowd: str, members: int, port: int) -> dict[str, Any]:
    """Create the crowd, and then the UserStorage of the other tenant; return the seconds until it is Ready."""
    client = KubeClient(await login(), Metrics("bench"))
    try:
        for namespace in ("crowd", "other"):
            await client.create(NAMESPACES, "", {"metadata": {"name": namespace}})
        full = {
            "apiVersion": "userstorage.dev/v1",
            "kind": "UserStorageClass",
            "metadata": {"name": "full"},
            "spec": {"limits": {"maxPerNamespace": 1}},
        }
        await client.create(USER_STORAGE_CLASSES, "", full)
        await asyncio.sleep(1)  # the default service account of a namespace has to exist
        limit = asyncio.Semaphore(_AT_ONCE)

        async def create(number: int) -> None:
            async with limit:
                await client.create(USER_STORAGES, "crowd", storage(f"u{number}", CROWDS[crowd](number)))

        await asyncio.gather(*map(create, range(members)))
        waiting = int(float(_metric(port, "userstorage_queue_depth")))
        started = time.monotonic()
        await client.create(USER_STORAGES, "other", storage("bob", {"userID": "bob"}))

        async def ready() -> bool:
            found = await client.get(USER_STORAGES, "other", "bob")
            return bool(found.get("status", {}).get("phase") == "Ready")

        await _until(ready)
        return {
            "crowd": crowd,
            "members": members,
            "queue_depth": waiting,
            "seconds_to_ready": round(time.monotonic() - started, 2),
            "loop_lag_seconds": round(float(_metric(port, "userstorage_loop_lag_seconds")), 3),
        }
    finally:
        await client.close()


def _metric(port: int, name: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        found = re.search(rf"^{name} (\S+)", response.read().decode(), re.MULTILINE)
    return found[1] if found is not None else "nan"


def run(crowd: str, members: int, report: Console) -> dict[str, Any]:
    """Measure one crowd on a new cluster."""
    with tempfile.TemporaryDirectory(prefix="userstorage-neighbours-") as directory:
        cluster = localcluster.start("control-plane", Path(directory), report)
        try:
            os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
            subprocess.run(
                [str(cluster.kubectl), "apply", "-k", str(ROOT / "deploy/crds")], check=True, stdout=subprocess.DEVNULL
            )
            port = free_port()
            executable = Path(sys.executable).with_name("userstorage-operator")
            options = ["run", f"--http-port={port}", "--log-level=warning"]
            with (Path(directory) / "operator.log").open("w") as log:
                process = subprocess.Popen([str(executable), *options], stdout=log, stderr=log)
                try:
                    time.sleep(4)  # its start is not part of the measurement
                    return asyncio.run(measure(crowd, members, port))
                finally:
                    process.terminate()
                    process.wait(timeout=30)
        finally:
            localcluster.stop(Path(directory))


def main() -> None:
    """Measure all crowds, print a table and save the result."""
    parser = argparse.ArgumentParser(prog="make bench-neighbours BENCH_ARGS=…", description=__doc__)
    parser.add_argument("--members", type=int, default=2000)
    parser.add_argument("--crowd", choices=CROWDS, action="append", help="one or more of them; by default all")
    chosen = parser.parse_args()
    results = [run(crowd, chosen.members, Console()) for crowd in chosen.crowd or CROWDS]
    print("| another tenant has | keys in the queue | seconds to Ready | loop lag |\n|---|---|---|---|")
    for result in results:
        print(
            f"| {result['members']:,} {result['crowd']} | {result['queue_depth']} | {result['seconds_to_ready']} "
            f"| {result['loop_lag_seconds']} s |"
        )
    now = datetime.now(UTC)
    machine = {"cores": os.cpu_count(), "platform": platform.machine(), "python": platform.python_version()}
    saved = {"time": now.isoformat(timespec="seconds"), "machine": machine, "results": results}
    (RESULTS / f"neighbours-{now:%Y%m%d-%H%M%S}.json").write_text(json.dumps(saved, indent=1) + "\n")


if __name__ == "__main__":
    main()
