"""Memory of the caches per user, and CPU per event, with objects as a real API server has them.

    make bench-memory [BENCH_ARGS="--users 10000"]

Starts an HTTP server in a process of its own that serves the lists and watches of a cluster with that many users, each with a
UserStorage, pod, claim, Service and NetworkPolicy, and points the real client, informers and sweep at it. No cluster is needed, so
what it measures is the process alone. It prints, per user and in total:

- the JSON that the API server sends, and what is kept of it, for each kind;
- the resident memory after the import of the operator, after the first lists and after a sweep, with the peak of each;
- the CPU time of this process for each listed object, and for each event of a pod.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import platform
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientSession, web
from kubernetes.aio.client import Configuration

from support.builders import desired_of, storage_object
from support.served import served, served_claim, served_pod
from userstorage_operator.api import names
from userstorage_operator.api.resources import USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import BUILT_IN
from userstorage_operator.cli import GC_THRESHOLD
from userstorage_operator.informers.caches import Caches
from userstorage_operator.informers.informer import Informer, relist
from userstorage_operator.informers.sweep import Sweep
from userstorage_operator.kube.client import KubeClient, NoopObserver
from userstorage_operator.observed.kept import keep
from userstorage_operator.observed.snapshot import Children, Snapshot
from userstorage_operator.plan.planner import plan
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report

_PLACEHOLDER = "user-00000000"
_MEBI = 1 << 20
_RESOURCES = (USER_STORAGES, *(kind.resource for kind in (Kind.POD, Kind.PVC, Kind.SERVICE, Kind.NETWORK_POLICY)))
_VERSION = 10_000_000
"""resourceVersion of the lists."""


def main() -> None:
    """Print the table, and keep it in benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--keep", action="store_true", help="write the figures to benchmarks/results")
    options = parser.parse_args()
    gc.set_threshold(*GC_THRESHOLD)
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, options.users, options.events), daemon=True
    )
    server.start()
    try:
        found = asyncio.run(_measure(ours.recv(), options.users, options.events))
    finally:
        server.terminate()
        server.join()
    _print(found)
    if options.keep:
        at = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        path = Path(__file__).parent / "results" / f"memory-{at}.json"
        path.write_text(json.dumps(found, indent=1) + "\n")


def _objects() -> dict[Resource, Unstructured]:
    """Return one settled user as the API server has it."""
    raw = storage_object(_PLACEHOLDER, meta={"name": _PLACEHOLDER, "uid": "0b5f8c3e-0000-4000-8000-000000000000"})
    raw["spec"] |= {"replicas": 1, "storage": {"size": "10Gi", "reclaimPolicy": "Retain", "readOnly": False}}
    desired = desired_of(raw)
    children = Children(
        pod=served_pod(desired.pod),
        pvc=served_claim(desired.pvc or {}),
        service=served(desired.service),
        network_policy=served(desired.network_policy or {}),
    )
    snapshot = Snapshot(UserStorage.parse(raw), BUILT_IN, children)
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    planned = plan(snapshot, now)
    raw["status"] = report(Outcome(snapshot, planned.desired, planned, None, now), {})
    return {USER_STORAGES: raw} | {
        kind.resource: getattr(children, kind.field) for kind in Kind if getattr(children, kind.field)
    }


def _templates() -> dict[str, bytes]:
    """Return URL path of a list -> the JSON of one of its objects; its digits stand for the number of the user."""
    found = {}
    for resource, obj in _objects().items():
        obj["metadata"]["resourceVersion"] = "100000000"
        obj["metadata"]["uid"] = "0b5f8c3e-0000-4000-8000-000000000000"
        found[resource.path(None)] = orjson.dumps(obj)
    return found


def _numbered(template: bytes, number: int, version: int) -> bytes:
    digits = b"%08d" % number
    named = template.replace(b"user-00000000", b"user-" + digits).replace(b"-000000000000", b"-0000" + digits)
    return named.replace(b'"100000000"', b'"%d"' % version)


def _serve(started: Connection, users: int, events: int) -> None:
    templates = _templates()
    watched = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        path, query = request.path, request.query
        if "watch" in query:
            return await stream(request, path)
        template = templates.get(path)
        served_list = template is not None and "!=" not in query.get("labelSelector", "")
        first, limit = int(query.get("continue") or 0), int(query["limit"])
        last = min(users, first + limit) if served_list else 0
        items = [_numbered(template or b"", number, number + 1) for number in range(first, last)]
        following = str(last) if 0 < last < users else ""
        meta = b'{"resourceVersion":"%d","continue":"%s"}' % (_VERSION, following.encode())
        body = b'{"metadata":' + meta + b',"items":[' + b",".join(items) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def stream(request: web.Request, path: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if path == Kind.POD.resource.path(None):
            await watched.wait()
            lines = bytearray()
            for number in range(events):
                pod = _numbered(templates[path], number % users, _VERSION + 1 + number)
                pod = pod.replace(b'"restartCount":0', b'"restartCount":%d' % (number // users + 1))
                lines += b'{"type":"MODIFIED","object":' + pod + b"}\n"
                if len(lines) > 1 << 18:
                    await response.write(lines)
                    lines.clear()
            await response.write(lines)
        bookmark = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%d"}}}\n' % (_VERSION + events)
        while True:
            await asyncio.sleep(30)
            await response.write(bookmark)

    async def go(_: web.Request) -> web.Response:
        watched.set()
        return web.Response()

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/go", go)
        app.router.add_get("/{path:.*}", handle)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


async def _measure(port: int, users: int, events: int) -> dict[str, Any]:
    client = KubeClient(Configuration(host=f"http://127.0.0.1:{port}"), NoopObserver())
    requeued = 0

    def count(_: object) -> None:
        nonlocal requeued
        requeued += 1

    caches = Caches(count, count)
    sweep = Sweep(client, caches, (None,), count, _Sweeps())
    informers = [Informer(client, kind.resource, None, names.CHILD_SELECTOR, caches.cache(kind.resource)) for kind in Kind]
    memory = {"imported": _memory()}
    started = time.process_time()
    tasks = [asyncio.create_task(informer.run()) for informer in informers]
    for resource in (USER_STORAGES, USER_STORAGE_CLASSES):
        await relist(client, resource, None, "", caches.cache(resource))
    while any(len(caches.cache(resource)) < users for resource in _RESOURCES):  # noqa: ASYNC110  # there is no event
        await asyncio.sleep(0.05)
    listing = time.process_time() - started
    gc.freeze()
    memory["listed"] = _memory()
    started = time.process_time()
    await sweep.once()
    sweeping = time.process_time() - started
    memory["swept"] = _memory()
    requeued, started = 0, time.process_time()
    async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/go") as response:
        await response.read()
    while requeued < events:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.01)
    watching = time.process_time() - started
    memory["events"] = _memory()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
    return {
        "users": users,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "bytes": {
            resource.plural: {"sent": len(template), "kept": len(orjson.dumps(keep(resource)(orjson.loads(template))))}
            for resource, template in ((resource, _templates()[resource.path(None)]) for resource in _RESOURCES)
        },
        "memory": memory,
        "cpu_us_per_listed_object": round(listing / users / len(_RESOURCES) * 1e6, 1),
        "cpu_us_per_swept_object": round(sweeping / users / len(_RESOURCES) * 1e6, 1),
        "cpu_us_per_event": round(watching / events * 1e6, 1),
    }


class _Sweeps:
    """Observes a sweep: nothing has to be counted."""

    def swept(self, seconds: float) -> None:
        """Ignore the duration."""

    def sweep_failed(self) -> None:
        """Fail: a list that is missing would make the figures look better."""
        raise RuntimeError("a list has failed")


def _memory() -> dict[str, float]:
    """Return the resident memory and its peak since the last call, in MiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    found = {name: round(int(status[field].split()[0]) / 1024, 1) for name, field in (("rss", "VmRSS"), ("peak", "VmHWM"))}
    Path("/proc/self/clear_refs").write_text("5")
    return found


def _print(found: dict[str, Any]) -> None:
    users, memory = found["users"], found["memory"]
    print(f"{users} users, {found['machine']}\n")
    print("| kind | JSON sent | kept |\n|---|---|---|")
    for plural, sizes in found["bytes"].items():
        print(f"| {plural} | {sizes['sent']} | {sizes['kept']} |")
    print("\n| | resident | peak | KiB per user |\n|---|---|---|---|")
    for moment, sizes in memory.items():
        each = (sizes["rss"] - memory["imported"]["rss"]) * 1024 / users
        print(f"| {moment} | {sizes['rss']} MiB | {sizes['peak']} MiB | {each:.1f} |")
    cpu = {what: found["cpu_us_per_" + what.replace(" ", "_")] for what in ("listed object", "swept object", "event")}
    print(f"\nCPU: {', '.join(f'{figure} us per {what}' for what, figure in cpu.items())}; the event is that of a pod")


if __name__ == "__main__":
    main()
