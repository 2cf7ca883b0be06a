"""Why a pod is not ready, in one reason and one sentence, from what the pod itself says."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from userstorage_operator.api.timestamps import parse_time
from userstorage_operator.api.unstructured import Unstructured

_IMAGE_REASONS = frozenset({"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"})
_TERMINATION_MESSAGE_MAX = 200
_PLAIN_WAITING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""What every container waits for in every start; any other reason is a failure."""
_OVERDUE = timedelta(seconds=10)
_COLLECTOR = "foregroundDeletion"
"""The finalizer of a deletion like ours, that waits for what the pod owns. The garbage collector takes it off."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition reason and a message for people."""

    reason: str
    message: str


def condition(pod: Unstructured, condition_type: str) -> Unstructured | None:
    """The pod condition of that type."""
    conditions: list[Unstructured] = pod.get("status", {}).get("conditions") or []
    return next((entry for entry in conditions if entry["type"] == condition_type), None)


def is_ready(pod: Unstructured) -> bool:
    """Whether the pod's own Ready condition is True."""
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True"


def restart_count(pod: Unstructured) -> int:
    """Restarts of all containers together."""
    return sum(status.get("restartCount", 0) for status in _containers(pod))


def disruption(pod: Unstructured) -> str | None:
    """The words of whoever ended the pod for the sake of something else: a node, another pod; None where nobody did."""
    target = condition(pod, "DisruptionTarget")
    if target is None or target["status"] != "True":
        return None
    return target.get("message") or target.get("reason") or "DisruptionTarget"


def termination_overdue_at(pod: Unstructured) -> datetime:
    """From when on it is worth telling that a pod that is ending is still there: every one is for a moment, in several steps."""
    return parse_time(pod["metadata"]["deletionTimestamp"]) + _OVERDUE


def awaits_garbage_collection(pod: Unstructured, now: datetime) -> bool:
    """Whether a pod that should have ended has nothing left but the garbage collector's finalizer."""
    meta = pod["metadata"]
    return now >= termination_overdue_at(pod) and (meta.get("deletionGracePeriodSeconds"), meta.get("finalizers")) == (
        0,
        [_COLLECTOR],
    )


def termination_note(pod: Unstructured, now: datetime) -> str:
    """Words to add to a message about a pod that is ending: where, why it was not us who ended it, and what keeps it."""
    meta, told = pod["metadata"], []
    if node := pod["spec"].get("nodeName"):
        told.append(f"it is on node {node!r}")
    if words := disruption(pod):
        told.append(words)
    if awaits_garbage_collection(pod, now):
        told.append("it waits for the garbage collector alone")
    elif others := [name for name in meta.get("finalizers") or () if name != _COLLECTOR]:
        told.append(f"finalizers of others on the pod keep it: {', '.join(others)}")
    elif now >= termination_overdue_at(pod):
        told.append(f"it had until {meta['deletionTimestamp']}")
    return "".join(f"; {words}" for words in told)


def not_ready_finding(pod: Unstructured) -> Finding:
    """The most telling fact about a pod that is not ready; containers before scheduling before phases."""
    for status in _containers(pod):
        if finding := _container_finding(status):
            return finding
    if words := unschedulable(pod):
        return Finding("Unschedulable", words)
    if pod.get("status", {}).get("phase") == "Running":
        return Finding("PodNotReady", _unready_message(pod))
    return Finding("PodPending", "the pod is being scheduled or its containers are being made")


def unschedulable(pod: Unstructured) -> str | None:
    """The scheduler's words on why no node takes the pod; None where it has not said so."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled is None or scheduled["status"] != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    return scheduled.get("message") or "no node takes the pod"


def is_mounting(pod: Unstructured) -> bool:
    """Whether it has its node and none of its containers has begun, for what may be want of its volumes: with these
    mounted, the node makes the sandbox and says so, and only then pulls images.
    """
    if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase", "Pending") != "Pending":
        return False
    sandbox = condition(pod, "PodReadyToStartContainers")
    waiting = (status.get("state", {}).get("waiting", {}).get("reason") for status in _containers(pod))
    return (sandbox is None or sandbox["status"] != "True") and all(reason in _PLAIN_WAITING for reason in waiting)


def _containers(pod: Unstructured) -> Iterator[Unstructured]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _container_finding(status: Unstructured) -> Finding | None:
    name, waiting = status["name"], status.get("state", {}).get("waiting")
    last: dict[str, Any] = status.get("lastState", {}).get("terminated") or {}
    now: dict[str, Any] = status.get("state", {}).get("terminated") or {}
    if status.get("ready"):
        return None
    if "OOMKilled" in (last.get("reason"), now.get("reason")):
        return Finding("OOMKilled", f"container {name} was ended at its memory limit ({status['restartCount']} restarts)")
    if waiting is None:
        return None
    reason, words = waiting.get("reason", ""), waiting.get("message") or ""
    if reason in _IMAGE_REASONS:
        return Finding("ImagePullBackOff", f"container {name}: {words or reason}")
    if reason == "CrashLoopBackOff":
        exit_code = last.get("exitCode", "unknown")
        restarts = status["restartCount"]
        story = f"container {name} keeps ending, last exit code {exit_code}, {restarts} restarts"
        said = _termination_message(last.get("message") or "")
        return Finding("CrashLoopBackOff", f"{story}: {said}" if said else story)
    if reason not in _PLAIN_WAITING:
        return Finding("PodNotReady", f"container {name}: {reason}: {words or 'no more is said'}")
    return None


def _termination_message(message: str) -> str:
    """The last line of a termination message that says something, fit for one line of a terminal."""
    lines = ("".join(char if char.isprintable() else " " for char in line).strip() for line in message.splitlines())
    said = [line for line in lines if line]
    return said[-1][:_TERMINATION_MESSAGE_MAX] if said else ""


def _unready_message(pod: Unstructured) -> str:
    ready = condition(pod, "ContainersReady") or condition(pod, "Ready") or {}
    return f"the pod runs but is not ready: {ready.get('message') or 'its readiness probe has not passed'}"
