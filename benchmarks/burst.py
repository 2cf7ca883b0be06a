"""CPU of the operator in a burst against a simulated API server, which is a process of its own: no cluster is needed.

The server answers over TLS and sends what a cluster would: it schedules and starts pods, binds claims, records field managers and
collects garbage. Only the CPU of the operator counts, so other programs on the machine disturb little. Run: `make bench-burst`.
"""

import argparse
import asyncio
import json
import os
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from contenders import OPERATOR
from measuring import cpu_seconds

from localcluster.certificates import Authority
from support.faultproxy import Request, parse
from support.served import managed_by
from userstorage_operator.api.names import FIELD_MANAGER, FINALIZER, FOREGROUND_FINALIZER
from userstorage_operator.api.resources import STORAGE_CLASSES, USER_STORAGE_CLASSES, USER_STORAGES, Kind, Resource
from userstorage_operator.api.unstructured import Unstructured

_NAMESPACE = "bench"
_RESOURCES = {
    resource.plural: resource
    for resource in (
        USER_STORAGES,
        USER_STORAGE_CLASSES,
        STORAGE_CLASSES,
        *(kind.resource for kind in Kind if not kind.resource.optional),
    )
}
_PATIENCE = 240
"""Seconds that the operator may take for a phase."""
_STEP = 0.05
"""Seconds between two changes of an object by a controller of the cluster."""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class SimulatedApiServer:
    """The objects, and the watches of them."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Unstructured] = {}
        """Plural and name -> object."""
        self.requests: Counter[str] = Counter()
        self.version = 1000
        self.watches: list[tuple[str, asyncio.Queue[bytes]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def app(self) -> web.Application:
        """Return the web application."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _answer(self, http: web.Request) -> web.StreamResponse:
        body = await http.read()
        request = parse(http.method, http.path_qs, body)
        if (resource := _RESOURCES.get(request.resource)) is None:
            found = _discovery(urlsplit(http.path_qs).path)
            return _json(found) if found is not None else _failure(404)
        if request.verb == "watch":
            return await self._watch(http, request)
        if request.verb == "list":
            return _json(self._list(request, resource))
        self.requests[request.what] += 1
        key = (request.resource, request.name)
        if request.verb == "create":
            if key in self.objects:
                return _failure(409)
            return _json(self.create(resource, orjson.loads(body)), 201)
        if key not in self.objects:
            return _failure(404)
        match request.verb:
            case "patch":
                return _json(self._patch(key, orjson.loads(body), http.content_type, request.subresource))
            case "delete":
                return _json(self.delete(key))
        return _json(self.objects[key])

    def _list(self, request: Request, resource: Resource) -> Unstructured:
        labelled = "!=" not in request.path and "metadata.name=-" not in request.path
        items = [obj for (plural, _), obj in self.objects.items() if plural == resource.plural and labelled]
        return {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    async def _watch(self, http: web.Request, request: Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(http)
        bookmark = {"type": "BOOKMARK", "object": {"kind": _RESOURCES[request.resource].kind, "apiVersion": "v1"}}
        bookmark["object"] |= {"metadata": {"resourceVersion": str(self.version)}}
        await response.write(orjson.dumps(bookmark) + b"\n")  # the headers go with it
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.watches.append(("" if "shareable" in request.path else request.resource, queue))
        while line := await queue.get():
            await response.write(line)
        return response

    def stop(self) -> None:
        """End all watches."""
        for _, queue in self.watches:
            queue.put_nowait(b"")

    def store(self, resource: str, obj: Unstructured, event: str = "MODIFIED") -> Unstructured:
        """Store a new version of the object and send its event."""
        self.version += 1
        obj = obj | {"metadata": obj["metadata"] | {"resourceVersion": str(self.version)}}
        name = obj["metadata"]["name"]
        if event == "DELETED":
            self.objects.pop((resource, name), None)
        else:
            self.objects[resource, name] = obj
        line = orjson.dumps({"type": event, "object": obj}) + b"\n"
        for watched, queue in self.watches:
            if watched == resource:
                queue.put_nowait(line)
        return obj

    def create(self, resource: Resource, body: Unstructured) -> Unstructured:
        """Create the object, and return it. The controllers of its kind start to work."""
        meta = {
            **body["metadata"],
            "uid": f"00000000-0000-4000-8000-{self.version:012}",
            "creationTimestamp": _now(),
            "generation": 1,
            "namespace": _NAMESPACE,
        }
        written = {field: value for field, value in body["metadata"].items() if field not in ("name", "namespace")}
        meta["managedFields"] = [managed_by(FIELD_MANAGER, {"metadata": written, "spec": body["spec"]})]
        obj = self.store(resource.plural, body | {"metadata": meta}, "ADDED")
        if resource is Kind.POD.resource:
            self._start(self._run_pod(meta["name"]))
        elif resource is Kind.PVC.resource:
            self._start(self._bind(meta["name"]))
        return obj

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_pod(self, name: str) -> None:
        at, conditions = _now(), [{"type": "PodScheduled", "status": "True", "lastTransitionTime": _now()}]
        await asyncio.sleep(_STEP)
        pod = self.objects["pods", name]
        pod = self._change(pod, "kube-scheduler", status={"phase": "Pending", "conditions": conditions})
        pod["spec"] = pod["spec"] | {"nodeName": "node-17", "schedulerName": "default-scheduler", "priority": 0}
        self.store("pods", pod)
        await asyncio.sleep(_STEP)
        kinds = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
        conditions = conditions + [{"type": kind, "status": "True", "lastTransitionTime": at} for kind in kinds]
        statuses = {
            field: [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": f"docker.io/filebrowser@sha256:{'a7' * 32}",
                    "containerID": f"containerd://{'4f' * 32}",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": at}},
                }
                for container in pod["spec"].get(source, ())
            ]
            for field, source in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers"))
        }
        status = {"phase": "Running", "conditions": conditions, "podIP": "10.0.0.7", "hostIP": "10.0.0.17", "startTime": at}
        self.store("pods", self._change(self.objects["pods", name], "kubelet", status=status | statuses))

    async def _bind(self, name: str) -> None:
        await asyncio.sleep(_STEP / 2)
        claim = self.objects["persistentvolumeclaims", name]
        claim = self._change(claim, "kube-controller-manager", status={"phase": "Pending"})
        claim["spec"] = claim["spec"] | {"volumeName": f"pvc-{name}", "storageClassName": "standard"}
        claim["metadata"]["annotations"] = claim["metadata"].get("annotations", {}) | {
            "pv.kubernetes.io/bind-completed": "yes",
            "pv.kubernetes.io/bound-by-controller": "yes",
        }
        self.store("persistentvolumeclaims", claim)
        await asyncio.sleep(_STEP / 2)
        size = claim["spec"]["resources"]["requests"]["storage"]
        status = {"phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": {"storage": size}}
        claim = self.objects["persistentvolumeclaims", name]
        self.store("persistentvolumeclaims", self._change(claim, "kube-controller-manager", status=status))

    @staticmethod
    def _change(obj: Unstructured, manager: str, **fields: Unstructured) -> Unstructured:
        meta = obj["metadata"]
        others = [entry for entry in meta["managedFields"] if entry["manager"] != manager]
        meta = meta | {"managedFields": [*others, managed_by(manager, fields, "status")]}
        return {**obj, "metadata": meta, **fields}

    def _patch(self, key: tuple[str, str], patch: Any, content_type: str, subresource: str) -> Unstructured:
        obj = self.objects[key]
        if content_type == "application/json-patch+json":
            finalizers = list(obj["metadata"].get("finalizers", ()))
            for operation in patch:
                path, value = operation["path"], operation.get("value")
                if operation["op"] == "remove" and path.startswith("/metadata/finalizers/"):
                    del finalizers[int(path.rpartition("/")[2])]
                elif operation["op"] == "add" and path.startswith("/metadata/finalizers"):
                    finalizers += value if isinstance(value, list) else [value]
            obj = obj | {"metadata": obj["metadata"] | {"finalizers": finalizers}}
        else:
            obj = _merged(obj, {field: value for field, value in patch.items() if field in ("metadata", "status", "spec")})
            if subresource == "status":
                obj = self._change(obj, f"{FIELD_MANAGER}-status", status=obj["status"])
        stored, meta = self.store(key[0], obj), obj["metadata"]
        if "deletionTimestamp" in meta and FINALIZER not in (meta.get("finalizers") or ()):
            self._start(self._collect_all(key[0], meta))
        return stored

    def delete(self, key: tuple[str, str]) -> Unstructured:
        """Start the deletion of the object with that plural and name, and return it."""
        plural, name = key
        meta = self.objects[key]["metadata"] | {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
        if plural == USER_STORAGES.plural:
            meta["finalizers"] = [*meta.get("finalizers", ()), FOREGROUND_FINALIZER]
        obj = self.store(plural, self.objects[key] | {"metadata": meta})
        if plural == Kind.POD.resource.plural:
            self._start(self._end_pod(name))
        return obj

    async def _end_pod(self, name: str) -> None:
        await asyncio.sleep(_STEP)
        pod = self.objects["pods", name]
        self.store("pods", self._change(pod, "kubelet", status=pod["status"] | {"phase": "Succeeded"}))
        await self._collect("pods", name, _STEP)

    async def _collect_all(self, plural: str, meta: Unstructured) -> None:
        """Delete the object and, before, what it owns, as the garbage collector does in the foreground."""
        await asyncio.sleep(_STEP)
        for key, obj in list(self.objects.items()):
            if any(owner["uid"] == meta["uid"] for owner in obj["metadata"].get("ownerReferences", ())):
                await self._collect(*key, 0)
        await self._collect(plural, meta["name"], _STEP)

    async def _collect(self, plural: str, name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        if (obj := self.objects.get((plural, name))) is not None:
            self.store(plural, obj, "DELETED")


def _merged(obj: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    found = dict(obj) if isinstance(obj, dict) else {}
    for field, value in patch.items():
        if value is None:
            found.pop(field, None)
        else:
            found[field] = _merged(found.get(field), value)
    return found


_CLUSTER = (
    # kopf looks up how to reach these, although it reads none of them here.
    Resource("", "v1", "namespaces", "Namespace", namespaced=False),
    Resource("", "v1", "events", "Event"),
    Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False),
)


def _discovery(path: str) -> Unstructured | None:
    """Return the answer to a discovery request; None if the path is another one."""
    groups = {resource.group: resource.version for resource in (*_CLUSTER, USER_STORAGES) if resource.group}
    parts = path.strip("/").split("/")
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"]}
    if parts == ["apis"]:
        return {"kind": "APIGroupList", "groups": [_group(name, version) for name, version in groups.items()]}
    group = "" if parts[0] == "api" else parts[1]
    known = (*_CLUSTER, USER_STORAGES, USER_STORAGE_CLASSES)
    found = [_served(resource) for resource in known if resource.group == group and parts[-1] == resource.version]
    return {"kind": "APIResourceList", "resources": found} if found else None


def _group(name: str, version: str) -> Unstructured:
    served = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [served], "preferredVersion": served}


def _served(resource: Resource) -> Unstructured:
    return {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
    }


def _json(obj: Any, status: int = 200) -> web.Response:
    headers = {"Audit-Id": "0b5f8c3e-0000-4000-8000-000000000000", "Cache-Control": "no-cache, private"}
    return web.Response(body=orjson.dumps(obj), status=status, content_type="application/json", headers=headers)


def _failure(status: int) -> web.Response:
    reason = {404: "NotFound", 409: "AlreadyExists"}[status]
    return _json({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": status}, status)


def _certificate(directory: Path) -> ssl.SSLContext:
    authority = Authority(directory)
    authority.server("server", [], ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.crt", directory / "server.key")
    return context


async def _measure(command: str, count: int, rate: float, directory: Path) -> dict[str, float]:
    server = SimulatedApiServer()
    runner = web.AppRunner(server.app(), shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=_certificate(directory)).start()
    address = f"https://127.0.0.1:{runner.addresses[0][1]}"
    kubeconfig = directory / "kubeconfig"
    cluster = {"server": address, "certificate-authority": str(directory / "ca.crt")}
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t" * 900}}],
    }
    kubeconfig.write_text(json.dumps(config))
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    process = await asyncio.create_subprocess_exec(
        *command.split(), "run", "--log-level=warning", "--http-port=0", env=environment
    )
    try:
        await _until(lambda: len(server.watches) > 8)
        await asyncio.sleep(2)
        found: dict[str, float] = {}
        for phase, act in (("creation", _create), ("deletion", _delete)):
            server.requests.clear()
            used, started = cpu_seconds(process.pid), time.monotonic()
            for number in range(count):
                act(server, f"user-{number:04}")
                await asyncio.sleep(max(0.0, started + (number + 1) / rate - time.monotonic()))
            done = _is_ready if phase == "creation" else _is_gone
            await _until(lambda: all(done(server, f"user-{number:04}") for number in range(count)))  # noqa: B023
            await asyncio.sleep(1.5)
            found[f"{phase}: CPU, ms"] = (cpu_seconds(process.pid) - used) / count * 1000
            found |= {f"{phase}: {what}": number / count for what, number in sorted(server.requests.items())}
        return found
    finally:
        process.terminate()
        await process.wait()
        server.stop()
        await runner.cleanup()


def _create(server: SimulatedApiServer, name: str) -> None:
    body = {"apiVersion": USER_STORAGES.api_version, "kind": USER_STORAGES.kind, "metadata": {"name": name}}
    spec = {"userID": name, "replicas": 1, "storage": {"size": "10Gi", "reclaimPolicy": "Retain", "readOnly": False}}
    conditions = [{"type": "Ready", "status": "Unknown", "reason": "Pending", "message": "", "lastTransitionTime": _now()}]
    server.create(USER_STORAGES, body | {"spec": spec, "status": {"phase": "Pending", "conditions": conditions}})


def _delete(server: SimulatedApiServer, name: str) -> None:
    server.delete((USER_STORAGES.plural, name))


def _is_ready(server: SimulatedApiServer, name: str) -> bool:
    return server.objects[USER_STORAGES.plural, name].get("status", {}).get("phase") == "Ready"


def _is_gone(server: SimulatedApiServer, name: str) -> bool:
    return (USER_STORAGES.plural, name) not in server.objects


async def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"the operator did not get there in {_PATIENCE} s")
        await asyncio.sleep(0.1)


def main() -> None:
    """Measure each operator in turn, and print the CPU per UserStorage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--rate", type=float, default=40, help="UserStorages created a second")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("commands", nargs="*", default=[str(OPERATOR)])
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {command: [] for command in options.commands}
    for _ in range(options.rounds):
        for command, rounds in found.items():
            with tempfile.TemporaryDirectory(prefix="userstorage-bench-") as directory:
                rounds.append(asyncio.run(_measure(command, options.objects, options.rate, Path(directory))))
            print(command, rounds[-1], flush=True)
    names = list(rounds[-1])
    print("| medians |" + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|", sep="\n")
    for name in names:
        values = (f"{median(one.get(name, 0) for one in rounds):.2f}" for rounds in found.values())
        print(f"| {name} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
