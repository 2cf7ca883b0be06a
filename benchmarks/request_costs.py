"""What each kind of request of the operator costs the API server and etcd, one after the other. Run: `make bench-requests`."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from contenders import kubectl
from measuring import ROOT, cpu_seconds

import localcluster
from userstorage_operator.api.names import FINALIZER
from userstorage_operator.api.resources import EVENTS, USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.kube.login import login
from userstorage_operator.status.events import StatusEvent, event_name

COUNT = 250
NAMESPACE = "default"
CONDITIONS = ("Ready", "StorageReady", "PodUpToDate", "NetworkReady", "Suspended", "Reconciling", "Stalled", "Paused")


def status(number: int) -> Unstructured:
    """Return a status of the size that a user has who is Ready."""
    common = {"reason": "PodReady", "message": "m" * 40, "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1}
    conditions = [{"type": name, "status": "True", **common} for name in CONDITIONS]
    pod = {"podName": f"user-storage-user-{number}", "podUID": str(number), "replicas": 1, "restartCount": 0}
    return {"status": {"phase": "Ready", "observedGeneration": 1, "conditions": conditions, **pod}}


def event(storage: Unstructured) -> Unstructured:
    """Return an Event about the UserStorage."""
    meta = storage["metadata"]
    happened = StatusEvent("Normal", "PodReady", "Serve", "the browser answers", ())
    about = {"kind": storage["kind"], "apiVersion": storage["apiVersion"], "name": meta["name"], "namespace": NAMESPACE}
    return {
        "metadata": {"name": event_name(storage, happened), "namespace": NAMESPACE},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "regarding": about | {"uid": meta["uid"]},
        "type": "Normal",
        "reason": "PodReady",
        "action": "Serve",
        "note": "the browser answers",
        "reportingController": "userstorage.dev/bench",
        "reportingInstance": "bench",
    }


async def measure(name: str, processes: dict[str, int], request: Callable[[int], Awaitable[object]]) -> None:
    """Send `COUNT` requests, and print the wall time and the CPU of both servers for one."""
    servers = ("kube-apiserver", "etcd")
    before, start = [cpu_seconds(processes[server]) for server in servers], time.monotonic()
    for number in range(COUNT):
        await request(number)
    wall = (time.monotonic() - start) / COUNT * 1000
    used = [(cpu_seconds(processes[server]) - seconds) / COUNT * 1000 for server, seconds in zip(servers, before, strict=True)]
    print(f"| {name} | {used[0]:.1f} ms | {used[1]:.1f} ms | {wall:.1f} ms |", flush=True)


async def compare(cluster: localcluster.Cluster) -> None:
    """Measure and print all kinds of requests."""
    client = KubeClient(await login(), NoopObserver())
    stored: dict[str, Unstructured] = {}

    def create(prefix: str) -> Callable[[int], Awaitable[None]]:
        async def request(number: int) -> None:
            name = f"{prefix}-{number}"
            body = {"apiVersion": USER_STORAGES.api_version, "kind": USER_STORAGES.kind, "metadata": {"name": name}}
            stored[name] = await client.create(USER_STORAGES, NAMESPACE, body | {"spec": {"userID": name}})

        return request

    def policy(number: int) -> Unstructured:
        spec = {"podSelector": {"matchLabels": {"userId": f"user-{number}"}}, "policyTypes": ["Ingress"]}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"user-{number}"},
            "spec": spec,
        }

    finalizer = [{"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}]
    requests: dict[str, Callable[[int], Awaitable[object]]] = {
        "create a UserStorage": create("user"),
        "get it": lambda number: client.get(USER_STORAGES, NAMESPACE, f"user-{number}"),
        "patch its finalizers": lambda number: client.json_patch(USER_STORAGES, NAMESPACE, f"user-{number}", finalizer),
        "patch its status": lambda number: client.merge_patch(
            USER_STORAGES, NAMESPACE, f"user-{number}", status(number), "status"
        ),
        "create an Event about it": lambda number: client.create(EVENTS, NAMESPACE, event(stored[f"user-{number}"])),
        "create a NetworkPolicy": lambda number: client.create(Kind.NETWORK_POLICY.resource, NAMESPACE, policy(number)),
    }
    print("| request | kube-apiserver | etcd | wall time |\n|---|---|---|---|")
    for name, request in requests.items():
        await measure(name, cluster.processes, request)
    kubectl(cluster, "apply", "-k", str(ROOT / "deploy/finalizer"))
    await asyncio.sleep(10)  # until the API server evaluates the policy
    await measure("create a UserStorage with deploy/finalizer", cluster.processes, create("admitted"))
    await client.close()


def main() -> None:
    """Run the comparison on a new cluster."""
    with tempfile.TemporaryDirectory(prefix="userstorage-bench-") as directory:
        cluster = localcluster.start("control-plane", Path(directory))
        try:
            os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
            kubectl(cluster, "apply", "-k", str(ROOT / "deploy/crds"))
            kubectl(cluster, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
            asyncio.run(compare(cluster))
        finally:
            localcluster.stop(Path(directory))


if __name__ == "__main__":
    main()
