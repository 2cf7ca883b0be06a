"""A deterministic workload, and its result: every run makes the same writes.

The number of status writes depends on the speed of the cluster: a claim that is bound before the first reconcile saves one
write. So the workload runs in steps: scheduler and kwok are stopped and continued in turns, and each step waits until the
operator is idle.
"""

import json
import os
import random
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from localcluster import state
from localcluster.addresses import free_port
from localcluster.layout import Layout
from support import brief_reports
from support.kubectl import Kubectl, eventually
from support.operator_account import WRITES, audit_log
from support.operator_process import OperatorProcess
from support.oracles import masked
from userstorage_operator.api.unstructured import Unstructured

QUIET = brief_reports.DELAY.total_seconds() + 2
"""Seconds without a write and with an empty queue after which the operator counts as idle: no report waits any longer."""
SEED = 5
FAILING = "conflict"
KINDS = "userstorages,pods,services,networkpolicies,persistentvolumeclaims"
_STATUS = "patch userstorages/status"
_STATUS_OF_FAILING = (_STATUS, FAILING)
_COUNTED = re.compile(r'^userstorage_(?:redis_errors|cache_rejected)_total\{(?:kind|reason)="(\w+)"\} ([0-9.]+)$', re.MULTILINE)

_FILLS = re.compile(r"^userstorage_mirror_fills_total ([0-9.]+)$", re.MULTILINE)


@dataclass
class WorkloadResult:
    """The result of a run of the workload."""

    objects: str = ""
    """The objects as JSON; values that differ between runs are masked."""
    writes: Counter[str] = field(default_factory=Counter)
    """The operator's accepted writes by verb and resource, without the status of the failing object: it is written once a minute
    with the number of attempts."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused writes, which changed nothing, by verb, resource and status code. The number of two kinds depends on timing: the
    attempts for the failing object (409), which start over if the backoff did not survive the restart, and a finalizer that is
    removed a second time before the watch has reported the deletion (404)."""
    seconds: float = 0.0
    """Sum over all steps of the time from the start of the step to the operator's last write in it."""
    unasked: int = 0
    """How many pods kwok deleted that were not being deleted. It deletes by name, and on a busy machine twice: the second time it is
    the pod that the operator has created since.
    """
    redis_counts: Counter[str] = field(default_factory=Counter)
    """The operator's metrics of Redis: failed calls by kind, rejected values by reason, fills after the first."""

    def has_same_writes(self, other: "WorkloadResult") -> bool:
        """Whether both runs made the same writes, however fast a claim was bound: its volume is named in one step and its phase set
        in the next, and a reconcile may see both at once.
        """
        more, less = self.writes - other.writes, other.writes - self.writes
        claims = other.writes["create persistentvolumeclaims"]
        return {*more, *less} <= {_STATUS} and (more + less)[_STATUS] <= claims


class AuditLog:
    """The operator's writes in one namespace since the construction of this object."""

    def __init__(self, api: Kubectl, namespace: str) -> None:
        self._path = audit_log(api)
        self._namespace = namespace
        self._offset = self._path.stat().st_size
        self.writes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.last = 0.0
        """Time of the last accepted write, in seconds since 1970."""
        self._pods: list[tuple[str, str, str, bool]] = []
        """Time, name and verb of each creation and deletion of a pod, and whether kwok made it."""

    def read(self) -> None:
        """Read the new lines of the log."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._count(line)

    def _count(self, line: bytes) -> None:
        if b'"userAgent":"userstorage-operator"' not in line and b'"verb":"delete"' not in line:
            return
        event = json.loads(line)
        if event["verb"] not in WRITES or event["objectRef"].get("namespace") != self._namespace:
            return
        self._follow(event)
        if event["userAgent"] != "userstorage-operator":
            return
        ref = event["objectRef"]
        resource = "/".join(part for part in (ref["resource"], ref.get("subresource")) if part)
        write, code = f"{event['verb']} {resource}", event["responseStatus"]["code"]
        if code >= 400:
            self.refused[f"{write} {code}"] += 1
            return
        if (write, ref.get("name")) == _STATUS_OF_FAILING:
            return
        self.writes[write] += 1
        self.last = max(self.last, datetime.fromisoformat(event["stageTimestamp"]).timestamp())

    def _follow(self, event: Unstructured) -> None:
        """Keep the creations and deletions of pods."""
        ref = event["objectRef"]
        if ref["resource"] != "pods" or "subresource" in ref or event["responseStatus"]["code"] >= 400:
            return
        if event["verb"] in {"create", "delete"}:
            by_kwok = event["userAgent"].startswith("kwok/")
            self._pods.append((event["requestReceivedTimestamp"], ref["name"], event["verb"], by_kwok))

    def unasked(self) -> int:
        """Return how many pods kwok deleted that were not being deleted (see `WorkloadResult`)."""
        deleting, found = set[str](), 0
        for _, name, verb, by_kwok in sorted(self._pods):  # lines are in the order of the responses
            if verb == "create":
                deleting.discard(name)
            elif by_kwok:
                found += name not in deleting
            else:
                deleting.add(name)
        return found


class Workload:
    """Runs the workload in a namespace, which is empty before and after."""

    def __init__(self, api: Kubectl, namespace: str, count: int) -> None:
        self._api = api
        self._namespace = namespace
        self._components = state.read(Layout(api.kubeconfig.parent).state)
        self._manifests = dict(manifests(count))

    def run(self, operator: Callable[[int], OperatorProcess], before: dict[str, Callable[[], object]]) -> WorkloadResult:
        """Run the workload. `operator` creates a process that will serve at a port; `before` maps steps to actions to run before
        them."""
        port, log = free_port(), AuditLog(self._api, self._namespace)
        process, outcome = operator(port), WorkloadResult()
        self._api.run("create", "service", "clusterip", f"user-storage-{FAILING}", "--tcp=80", "-n", self._namespace)
        with self._signalled("kwok", on=False), self._signalled("kube-scheduler", on=False):
            try:
                outcome.seconds += started(process, port)
                for name, step, components in self._steps(process, port, outcome):
                    before.get(name, lambda: None)()
                    outcome.seconds += self._timed(log, port, step)
                    for component in components:
                        with self._signalled(component, on=True):
                            outcome.seconds += self._timed(log, port, lambda: None)
                outcome.objects = self._masked_objects()
                outcome.redis_counts += redis_counts(port)
            finally:
                process.stop()
        outcome.writes, outcome.refused, outcome.unasked = log.writes, log.refused, log.unasked()
        self._clear()
        return outcome

    def _steps(
        self, process: OperatorProcess, port: int, outcome: WorkloadResult
    ) -> Iterator[tuple[str, Callable[[], object], tuple[str, ...]]]:
        """Yield each step: its name, its action, and the components that run after it, in turn."""

        def apply(name: str) -> Callable[[], object]:
            return lambda: self._api.run("apply", "-n", self._namespace, "-f", "-", input=listed(self._manifests[name]))

        def restart() -> None:
            outcome.redis_counts += redis_counts(port)
            process.kill()
            started(process, port)

        # First claims are bound and pods terminate, then pods get a node, then they run.
        yield "create", apply("create"), ("kwok", "kube-scheduler", "kwok")
        yield "change", apply("change"), ("kwok", "kube-scheduler", "kwok")
        yield "suspend", apply("suspend"), ("kwok",)
        yield "restart", restart, ()
        yield "resume", apply("resume"), ("kube-scheduler", "kwok")
        names = [raw["metadata"]["name"] for raw in self._manifests["delete"]]
        yield "delete", lambda: self._api.delete("us", *names, namespace=self._namespace), ("kwok",)

    def _timed(self, log: AuditLog, port: int, step: Callable[[], object]) -> float:
        """Run a step; return the seconds until the last write that it caused."""
        began = time.time()
        step()
        self._settle(log, port)
        return max(0.0, log.last - began)

    def _settle(self, log: AuditLog, port: int) -> None:
        """Wait until the operator has observed every spec, has an empty queue and has not written for QUIET seconds."""
        quiet_since, known = time.monotonic(), -1
        deadline = quiet_since + 300
        while time.monotonic() - quiet_since < QUIET or not self._all_observed():
            assert time.monotonic() < deadline, "the operator does not become idle"
            time.sleep(0.05)
            log.read()
            if log.writes.total() != known or metric(port, "userstorage_queue_depth") > 0:
                quiet_since, known = time.monotonic(), log.writes.total()

    def _all_observed(self) -> bool:
        raws = self._api.list_all("userstorages", self._namespace)
        return all(raw.get("status", {}).get("observedGeneration") == raw["metadata"]["generation"] for raw in raws)

    @contextmanager
    def _signalled(self, name: str, *, on: bool) -> Iterator[None]:
        """Continue (`on`) or stop a component of the cluster within the block; do the opposite after it."""
        assert self._components is not None
        pid = self._components.processes[name].pid
        enter, leave = (signal.SIGCONT, signal.SIGSTOP) if on else (signal.SIGSTOP, signal.SIGCONT)
        os.kill(pid, enter)
        try:
            yield
        finally:
            os.kill(pid, leave)

    def _masked_objects(self) -> str:
        eventually(lambda: self._children() == self._desired_children())  # the garbage collector takes its time
        items = json.loads(self._api.run("get", KINDS, "-n", self._namespace, "-o", "json").stdout)["items"]
        items = sorted(items, key=lambda item: (item["kind"], item["metadata"]["name"]))
        return "[" + ", ".join(masked(item) for item in items) + "]"

    def _children(self) -> set[str]:
        return {raw["metadata"]["name"] for raw in self._api.list_all("networkpolicies", self._namespace)}

    def _desired_children(self) -> set[str]:
        owners = {raw["metadata"]["name"] for raw in self._api.list_all("userstorages", self._namespace)}
        return {f"user-storage-{name}" for name in owners}

    def _clear(self) -> None:
        """Remove the finalizers, which no operator handles any more, and delete all objects."""
        patch = ["--type=merge", "-p", '{"metadata":{"finalizers":null}}']
        for kind in ("userstorages", "networkpolicies"):
            for raw in self._api.list_all(kind, self._namespace):
                self._api.run("patch", kind, raw["metadata"]["name"], "-n", self._namespace, *patch)
        self._api.run("delete", KINDS, "--all", "-n", self._namespace, "--wait=false")
        eventually(lambda: not json.loads(self._api.run("get", KINDS, "-n", self._namespace, "-o", "json").stdout)["items"])


def manifests(count: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the objects that each step applies or deletes."""
    dice = random.Random(SEED)  # noqa: S311  # the same workload every time
    users = [user(f"u{number}", storage={"size": f"{dice.randint(1, 9)}Gi"}) for number in range(count)]
    yield "create", [*users, user(FAILING)]
    yield "change", [_changed(raw, lifecycle={"terminationGracePeriodSeconds": 7}) for raw in dice.sample(users, count // 3)]
    suspended = dice.sample(users, count // 3)
    yield "suspend", [_changed(raw, replicas=0) for raw in suspended]
    yield "resume", [_changed(raw, replicas=1) for raw in suspended[::2]]
    yield "delete", dice.sample(users, count // 6)


def user(name: str, **spec: Any) -> dict[str, Any]:
    kind = {"apiVersion": "userstorage.dev/v1", "kind": "UserStorage"}
    return {**kind, "metadata": {"name": name}, "spec": {"userID": name, **spec}}


def _changed(raw: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**raw, "spec": {**raw["spec"], **spec}}


def listed(items: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def started(process: OperatorProcess, port: int) -> float:
    """Start the operator. Return the seconds until it is ready."""
    began = time.monotonic()
    process.launch()

    def ready() -> bool:
        assert process.exit_code() is None, process.log.read_text()[-4000:]  # else another program may respond at its port
        try:
            return bool(get(port, "/ready"))
        except OSError:
            return False

    eventually(ready, every=0.02)
    return time.monotonic() - began


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def metric(port: int, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in get(port, "/metrics").splitlines() if line.startswith(name))


def redis_counts(port: int) -> Counter[str]:
    text = get(port, "/metrics")
    counted = Counter({name: int(float(value)) for name, value in _COUNTED.findall(text)})
    counted["filled again"] = max(0, int(float(_FILLS.findall(text)[0])) - 1)
    return +counted
