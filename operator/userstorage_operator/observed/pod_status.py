"""Why a pod is not ready, as one reason and one sentence, read from the status of the pod."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.text import redacted

_IMAGE_REASONS = frozenset({"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"})
_TERMINATION_MESSAGE_MAX = 200
_NORMAL_WAITING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Waiting reasons of a normal start; any other reason is a failure."""
_OWN_CONTAINERS = frozenset({names.CONTAINER, names.INIT_CONTAINER, names.DIRECTORY_CONTAINER})
_STALE_MOUNTS = ("transport endpoint is not connected", "stale file handle", "stale nfs file handle")
"""What ENOTCONN and ESTALE are called in the messages of container runtimes, in lower case."""
_OVERDUE = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition reason such as `OOMKilled`, and a message for people."""

    reason: str
    message: str


def condition(pod: Unstructured, condition_type: str) -> Unstructured | None:
    """Return the pod condition of that type; None if the pod does not have it."""
    conditions: list[Unstructured] = pod.get("status", {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == condition_type), None)


def is_ready(pod: Unstructured) -> bool:
    """Whether the pod's own Ready condition is True."""
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True"


def restart_count(pod: Unstructured) -> int:
    """Return the restarts of the browser's container."""
    return sum(status.get("restartCount", 0) for status in _containers(pod) if status["name"] == names.CONTAINER)


def has_restarted(pod: Unstructured) -> bool:
    """Whether any container of the pod has restarted, also one that another controller added."""
    return any(status.get("restartCount", 0) for status in _containers(pod))


def was_ready(pod: Unstructured) -> bool:
    """Whether the pod has lost its readiness since the browser's container has started, as when its node is lost.

    Not if that came with the deletion of the pod: it is replaced on purpose.
    """
    changed = (condition(pod, "Ready") or {}).get("lastTransitionTime")
    started = ((_browser(pod) or {}).get("state", {}).get("running") or {}).get("startedAt")
    if is_ready(pod) or changed is None or started is None:
        return False
    deleted = _deletion_requested_at(pod)
    return parse_time(changed) > parse_time(started) and (deleted is None or parse_time(changed) < deleted)


def without_files_since(pod: Unstructured) -> datetime | None:
    """Return since when the browser runs but cannot read its volume, as far as its readiness probe shows; None if it does not run,
    is ready, or has not started.

    A container that the kubelet cannot start again because of the mount counts too. The time starts with the loss of readiness;
    if the container was never ready, when its start must have ended: no status says when its startup probe succeeded. So neither a
    slow start nor a crash loop counts, nor a lost node or a readiness gate, which leave the container ready.
    """
    status = _browser(pod)
    since = (condition(pod, "Ready") or {}).get("lastTransitionTime")
    if status is None or status.get("ready") or since is None or pod.get("status", {}).get("phase") != "Running":
        return None
    running, waiting = (status.get("state", {}).get(name) for name in ("running", "waiting"))
    if running is not None and running.get("startedAt") and status.get("started"):
        lost, started = parse_time(since), parse_time(running["startedAt"])
        return lost if lost > started else started + _longest_start(pod)
    if waiting is not None and any(error in (waiting.get("message") or "").lower() for error in _STALE_MOUNTS):
        return parse_time(since)
    return None


def time_to_fail(pod: Unstructured) -> timedelta:
    """Return how long the readiness probe of the browser takes to find that it fails."""
    return _duration(pod, "readinessProbe")


def _longest_start(pod: Unstructured) -> timedelta:
    return _duration(pod, "startupProbe")


def _duration(pod: Unstructured, name: str) -> timedelta:
    """Return the time in which a probe of the browser fails as often as it may, with the defaults of Kubernetes."""
    browsers = [container for container in pod["spec"]["containers"] if container["name"] == names.CONTAINER]
    probe: Unstructured = (browsers[0].get(name) if browsers else None) or {}
    failures: timedelta = timedelta(seconds=probe.get("periodSeconds", 10)) * probe.get("failureThreshold", 3)
    return timedelta(seconds=probe.get("initialDelaySeconds", 0)) + failures


def disruption(pod: Unstructured) -> str | None:
    """Return the message of the condition DisruptionTarget (node drain, preemption, eviction); None unless it is True."""
    target = condition(pod, "DisruptionTarget")
    if target is None or target["status"] != "True":
        return None
    return target.get("message") or target.get("reason") or "DisruptionTarget"


def _deletion_requested_at(pod: Unstructured) -> datetime | None:
    meta = pod["metadata"]
    if "deletionTimestamp" not in meta:
        return None
    return parse_time(meta["deletionTimestamp"]) - timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)


def termination_overdue_at(pod: Unstructured) -> datetime:
    """Return when to start reporting that a pod is still terminating: ten seconds after the end of its grace period.

    Earlier, the message would change with each step of a normal termination.
    """
    return parse_time(pod["metadata"]["deletionTimestamp"]) + _OVERDUE


def awaits_garbage_collection(pod: Unstructured, now: datetime) -> bool:
    """Whether the termination of a pod is overdue, and only the finalizer `foregroundDeletion` keeps it."""
    meta = pod["metadata"]
    return now >= termination_overdue_at(pod) and (meta.get("deletionGracePeriodSeconds"), meta.get("finalizers")) == (
        0,
        [names.FOREGROUND_FINALIZER],
    )


def termination_note(pod: Unstructured, now: datetime) -> str:
    """Return the end of a message about a terminating pod: its node, the cause of a disruption, and what keeps the pod."""
    meta, notes = pod["metadata"], []
    if node := pod["spec"].get("nodeName"):
        notes.append(f"it is on node {node!r}")
    if cause := disruption(pod):
        notes.append(f"it was disrupted: {cause}")
    if awaits_garbage_collection(pod, now):
        notes.append("it waits only for the garbage collector")
    elif finalizers := [name for name in meta.get("finalizers") or () if name != names.FOREGROUND_FINALIZER]:
        notes.append(f"finalizers of other controllers keep it: {', '.join(finalizers)}")
    elif now >= termination_overdue_at(pod):
        notes.append(f"its grace period ended at {meta['deletionTimestamp']}")
    return "".join(f"; {note}" for note in notes)


def not_ready_finding(pod: Unstructured) -> Finding:
    """Return the most specific cause why a pod is not ready: containers first, then scheduling, then gates, then the phase."""
    for status in _containers(pod):
        if finding := _container_finding(status):
            return finding
    if message := unschedulable(pod):
        return Finding("Unschedulable", message)
    if gates := [gate["name"] for gate in pod["spec"].get("schedulingGates") or ()]:
        return Finding(
            "SchedulingGated", f"the pod is not scheduled before another controller lifts its gates: {', '.join(gates)}"
        )
    if gates := _unmet_readiness_gates(pod):
        return Finding("ReadinessGatesNotReady", f"the containers are ready, but not the readiness gates: {', '.join(gates)}")
    if pod.get("status", {}).get("phase") == "Running":
        return Finding("PodNotReady", _unready_message(pod))
    return Finding("PodPending", "the pod is being scheduled or its containers are being created")


def _unmet_readiness_gates(pod: Unstructured) -> list[str]:
    """Return the readiness gates that keep a pod from being ready whose containers are ready."""
    containers = condition(pod, "ContainersReady")
    if containers is None or containers["status"] != "True":
        return []
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    return [gate for gate in gates if (condition(pod, gate) or {}).get("status") != "True"]


def unschedulable(pod: Unstructured) -> str | None:
    """Return the scheduler's message why no node fits the pod; None if the scheduler has reported no such problem."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled is None or scheduled["status"] != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    return scheduled.get("message") or "no node fits the pod"


def is_mounting(pod: Unstructured) -> bool:
    """Whether the pod has a node, and none of its containers has started, perhaps because its volumes are not mounted yet.

    The kubelet mounts the volumes, then creates the sandbox and reports it, and only then pulls images.
    """
    if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase", "Pending") != "Pending":
        return False
    sandbox = condition(pod, "PodReadyToStartContainers")
    waiting = (status.get("state", {}).get("waiting", {}).get("reason") for status in _containers(pod))
    return (sandbox is None or sandbox["status"] != "True") and all(reason in _NORMAL_WAITING for reason in waiting)


def _containers(pod: Unstructured) -> Iterator[Unstructured]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _browser(pod: Unstructured) -> Unstructured | None:
    """Return the status of the browser's container; None if the pod does not have it yet."""
    return next((status for status in _containers(pod) if status["name"] == names.CONTAINER), None)


def _container_finding(status: Unstructured) -> Finding | None:
    waiting = status.get("state", {}).get("waiting")
    name = status["name"] if status["name"] in _OWN_CONTAINERS else f"{status['name']} (not the operator's)"
    last: dict[str, Any] = status.get("lastState", {}).get("terminated") or {}
    now: dict[str, Any] = status.get("state", {}).get("terminated") or {}
    if status.get("ready"):
        return None
    if "OOMKilled" in (last.get("reason"), now.get("reason")):
        return Finding("OOMKilled", f"container {name} was killed at its memory limit ({status['restartCount']} restarts)")
    if waiting is None:
        # The kubelet may show a failed init container as terminated for all of its backoff.
        return _crash_loop(name, now, status["restartCount"]) if now.get("exitCode") and status["restartCount"] else None
    reason, message = waiting.get("reason", ""), waiting.get("message") or ""
    if reason in _IMAGE_REASONS:
        return Finding("ImagePullBackOff", f"container {name}: {message or reason}")
    if reason == "CrashLoopBackOff":
        return _crash_loop(name, last, status["restartCount"])
    if reason not in _NORMAL_WAITING:
        return Finding("PodNotReady", f"container {name}: {reason}: {message or 'no details given'}")
    return None


def _crash_loop(name: str, terminated: Unstructured, restarts: int) -> Finding:
    exit_code = terminated.get("exitCode", "unknown")
    crashes = f"container {name} keeps exiting, last exit code {exit_code}, {restarts} restarts"
    last_line = _last_line(terminated.get("message") or "")
    return Finding("CrashLoopBackOff", f"{crashes}: {last_line}" if last_line else crashes)


def _last_line(message: str) -> str:
    """Return the last line of a termination message that is not blank, without secrets and cut to fit a condition; else ""."""
    lines = ("".join(char if char.isprintable() else " " for char in line).strip() for line in message.splitlines())
    printed = [line for line in lines if line]
    return redacted(printed[-1])[:_TERMINATION_MESSAGE_MAX] if printed else ""


def _unready_message(pod: Unstructured) -> str:
    containers, ready = condition(pod, "ContainersReady") or {}, condition(pod, "Ready") or {}
    if containers.get("status") == "True" and ready.get("status") == "False" and not ready.get("reason"):
        # The kubelet gives a reason; the node controller, for the pods of a node that does not report, gives none.
        return f"node {pod['spec'].get('nodeName')!r} does not report: it is down, or does not reach the API server"
    unready = containers.get("message") or ready.get("message") or "its readiness probe has not passed"
    return f"the pod is running but not ready: {unready}"
