"""The status of a UserStorage: told anew from every verdict, written only where it differs."""

from datetime import timedelta

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import MESSAGE_MAX, Condition, Phase, merge
from userstorage_operator.api.timestamps import format_time, parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status, pvc_resize, volume_usage
from userstorage_operator.observed.snapshot import is_ours
from userstorage_operator.plan.builders import claim_name, selector
from userstorage_operator.status import conditions
from userstorage_operator.status.network_ready import url
from userstorage_operator.status.outcome import Outcome

_IMAGE_MAX = 512
_HASH_MAX = 128
_URL_MAX = 2048
"""What the schema takes. Others may write to a pod of ours, and one value that is refused would keep the whole status from
being written."""
_ERROR_REFRESH = timedelta(seconds=60)
"""How often the count of a repeating error is written anew; in between the object is left in peace."""


def report(outcome: Outcome, previous: Unstructured) -> Unstructured:
    """The whole status; equal to `previous` where there is nothing new to say."""
    storage = outcome.snapshot.storage
    found = conditions.conditions(outcome)
    status: Unstructured = {
        "observedGeneration": storage.meta.generation,
        "phase": str(_phase(outcome, {condition.type: condition for condition in found})),
        "conditions": merge(previous.get("conditions") or (), found, storage.meta.generation, outcome.now),
        "slug": storage.slug,
        "selector": ",".join(f"{key}={value}" for key, value in selector(storage).items()),
        "storage": _storage(outcome, previous.get("storage") or {}),
        **_pod(outcome),
    }
    service = outcome.snapshot.children.service
    if service is not None and is_ours(service, storage.meta.uid):
        status["serviceName"] = service["metadata"]["name"]
        # Who lost the class is still served where it was.
        cls, told = outcome.snapshot.cls, previous.get("url")
        if (at := url(outcome.snapshot, cls) if cls is not None else told) is not None and len(at) <= _URL_MAX:
            status["url"] = at
    if (error := _last_error(outcome, previous.get("lastError"))) is not None:
        status["lastError"] = error
    return status


def status_patch(new: Unstructured, previous: Unstructured) -> Unstructured:
    """The JSON merge patch that makes `previous` into `new`; empty where they are equal."""
    changed = {key: value for key, value in new.items() if previous.get(key) != value}
    for key, value in changed.items():
        if isinstance(value, dict) and isinstance(previous.get(key), dict):
            changed[key] = value | dict.fromkeys(previous[key].keys() - value.keys())
    return changed | dict.fromkeys(previous.keys() - new.keys())


def _phase(outcome: Outcome, found: dict[str, Condition]) -> Phase:
    storage, pod = outcome.snapshot.storage, outcome.snapshot.own_pod
    if storage.is_deleting:
        return Phase.TERMINATING
    if found[reasons.STALLED].status:
        return Phase.FAILED
    if storage.suspended and outcome.blocking_failure is None:
        return Phase.SUSPENDED
    if found[reasons.READY].status:
        sound = found[reasons.STORAGE_READY].status and found[reasons.NETWORK_READY].status
        return Phase.READY if sound else Phase.DEGRADED
    if pod is not None:
        return Phase.DEGRADED if pod_status.restart_count(pod) else Phase.STARTING
    return Phase.PENDING


def _pod(outcome: Outcome) -> Unstructured:
    """What is told of the pod; nothing of one that is not ours."""
    pod = outcome.snapshot.own_pod
    if pod is None:
        return {"replicas": 0}
    meta, spec = pod["metadata"], pod["spec"]
    told: Unstructured = {
        "replicas": 1,
        "podName": meta["name"],
        "podUID": meta["uid"],
        "appliedHash": (meta.get("annotations") or {}).get(names.ANNOTATION_POD_HASH, "")[:_HASH_MAX],
        "restartCount": pod_status.restart_count(pod),
    }
    images = (container.get("image") for container in spec["containers"] if container["name"] == names.CONTAINER)
    if image := next(images, None):
        told["image"] = image[:_IMAGE_MAX]
    if node := spec.get("nodeName"):
        told["nodeName"] = node
    if pod_status.is_ready(pod) and (since := (pod_status.condition(pod, "Ready") or {}).get("lastTransitionTime")):
        told["readyTime"] = since
        took = parse_time(since) - parse_time(meta["creationTimestamp"])
        # The kubelet's clock may be behind that of the API server.
        told["startupSeconds"] = max(0, int(took.total_seconds()))
    return told


def _storage(outcome: Outcome, previous: Unstructured) -> Unstructured:
    claim = outcome.snapshot.children.pvc
    told: Unstructured = {"claimName": claim_name(outcome.snapshot.storage)}
    if claim is None:
        return told
    told["claimPhase"] = claim.get("status", {}).get("phase", "Pending")
    told["requested"] = claim["spec"]["resources"]["requests"]["storage"]
    if capacity := claim.get("status", {}).get("capacity", {}).get("storage"):
        told["capacity"] = capacity
    if (growth := pvc_resize.progress(claim)) is not None:
        told["resize"] = str(growth)
    if (volume := outcome.snapshot.volume) is not None:
        told |= volume_usage.volume_status(previous, told["claimName"], volume.use)
    return told


def _last_error(outcome: Outcome, previous: Unstructured | None) -> Unstructured | None:
    """The failure of this pass. A repetition keeps the time of the first and is written again only while tries go on,
    once a minute: one fault, one write.
    """
    if outcome.failure is None:
        return None
    reason, message = outcome.failure.error.reason, outcome.failure.error.message[:MESSAGE_MAX]
    next_retry = outcome.failure.next_retry
    since, known = format_time(outcome.now), previous or {}
    if "time" in known and (known.get("reason"), known.get("message")) == (reason, message):
        since = known["time"]
        last_told = parse_time(str(known.get("nextRetryTime", since)))
        if next_retry is None or outcome.now - last_told < _ERROR_REFRESH:
            return known
    told: Unstructured = {
        "reason": reason,
        "message": message,
        "time": since,
        "attempts": outcome.failure.attempts,
    }
    if next_retry is not None:
        told["nextRetryTime"] = format_time(next_retry)
    return told
