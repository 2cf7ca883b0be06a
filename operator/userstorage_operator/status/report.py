"""The status of a UserStorage: computed from the outcome of every reconcile, written only if it differs."""

from datetime import timedelta

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import MESSAGE_MAX, Condition, Phase, merge
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.timestamps import format_time, parse_time
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.observed import pod_status, pvc_resize, volume_usage
from userstorage_operator.observed.lost_claim import lost_claims
from userstorage_operator.observed.snapshot import Snapshot
from userstorage_operator.plan.child import claim_name, selector
from userstorage_operator.plan.pod import claim_is_disappearing
from userstorage_operator.status import conditions
from userstorage_operator.status.network_ready import url
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.text import printable

_IMAGE_MAX = 512
_HASH_MAX = 128
_URL_MAX = 2048
"""Maximum lengths in the CRD's schema. Other clients may edit our pod, and one refused value would block the status update."""
_ERROR_REFRESH = timedelta(seconds=60)
"""Minimum interval between writes of the attempt count of a repeating error."""


def report(outcome: Outcome, previous: Unstructured) -> Unstructured:
    """Return the complete new status of the UserStorage; equal to `previous`, its current status, if nothing has changed."""
    storage = outcome.snapshot.storage
    if storage.paused:
        return previous | {"conditions": _frozen_conditions(outcome, previous.get("conditions") or [])}
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
    if (service := outcome.snapshot.own(Kind.SERVICE)) is not None:
        status["serviceName"] = service["metadata"]["name"]
        # A UserStorage whose class was deleted is still served at its previous URL.
        cls = outcome.snapshot.cls
        browser_url = url(outcome.snapshot, cls) if cls is not None else previous.get("url")
        if browser_url is not None and len(browser_url) <= _URL_MAX:
            status["url"] = browser_url
    if (error := _last_error(outcome, previous.get("lastError"))) is not None:
        status["lastError"] = error
    return status


def _frozen_conditions(outcome: Outcome, previous: list[Unstructured]) -> list[Unstructured]:
    """Return the conditions of a paused UserStorage: the previous ones, and Paused."""
    generation = outcome.snapshot.storage.meta.generation
    others = [entry for entry in previous if entry["type"] != reasons.PAUSED]
    return [*others, *merge(previous, [conditions.paused(outcome)], generation, outcome.now)]


def status_patch(new: Unstructured, previous: Unstructured) -> Unstructured:
    """Return the JSON merge patch that turns the status `previous` into `new`; an empty patch if they are equal."""
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
        healthy = found[reasons.STORAGE_READY].status and found[reasons.NETWORK_READY].status
        return Phase.READY if healthy else Phase.DEGRADED
    if pod is not None:
        served_before = pod_status.has_restarted(pod) or pod_status.was_ready(pod)
        return Phase.DEGRADED if served_before else Phase.STARTING
    return Phase.PENDING


def _pod(outcome: Outcome) -> Unstructured:
    """Return the status fields about our own pod; only `replicas: 0` if there is none."""
    pod = outcome.snapshot.own_pod
    if pod is None:
        return {"replicas": 0}
    meta, spec = pod["metadata"], pod["spec"]
    status: Unstructured = {
        "replicas": 1,
        "podName": meta["name"],
        "podUID": meta["uid"],
        "appliedHash": (meta.get("annotations") or {}).get(names.ANNOTATION_POD_HASH, "")[:_HASH_MAX],
        "restartCount": pod_status.restart_count(pod),
    }
    images = (container.get("image") for container in spec["containers"] if container["name"] == names.CONTAINER)
    if image := next(images, None):
        status["image"] = image[:_IMAGE_MAX]
    if node := spec.get("nodeName"):
        status["nodeName"] = node
    if pod_status.is_ready(pod) and (since := (pod_status.condition(pod, "Ready") or {}).get("lastTransitionTime")):
        status["readyTime"] = since
        startup = parse_time(since) - parse_time(meta["creationTimestamp"])
        # The kubelet's clock may be behind that of the API server.
        status["startupSeconds"] = max(0, int(startup.total_seconds()))
    return status


def _storage(outcome: Outcome, previous: Unstructured) -> Unstructured:
    claim = outcome.snapshot.children.pvc
    status: Unstructured = {"claimName": claim_name(outcome.snapshot.storage)} | _known_claims(outcome.snapshot, previous)
    if claim is None:
        return status
    status["claimPhase"] = claim.get("status", {}).get("phase", "Pending")
    status["requested"] = claim["spec"]["resources"]["requests"]["storage"]
    if capacity := claim.get("status", {}).get("capacity", {}).get("storage"):
        status["capacity"] = capacity
    if (growth := pvc_resize.progress(claim, outcome.snapshot.storage.own_size)) is not None:
        status["resize"] = str(growth)
    if (volume := outcome.snapshot.volume) is not None:
        status |= volume_usage.volume_status(previous, status["claimName"], volume.use)
    return status


def _known_claims(snapshot: Snapshot, previous: Unstructured) -> Unstructured:
    """Return the claim that has the files and the one that was lost; see observed/lost_claim.py.

    A claim that is being deleted is recorded only for a user whose pod is on it: that of the user's previous UserStorage, with
    reclaimPolicy Delete, is no loss to this one.
    """
    claim = snapshot.children.pvc
    if snapshot.claim_context.claim_read_error is not None:
        return {field: previous[field] for field in ("claimUID", "volumeName", "lostClaim") if field in previous}
    lost = lost_claims(snapshot)
    is_pending = len(lost) > 1  # a second one: it is reported when the loss of the first one is accepted
    if claim is None or is_pending or (claim_is_disappearing(snapshot) and snapshot.own_pod is None):
        known: Unstructured = {field: previous[field] for field in ("claimUID", "volumeName") if field in previous}
    else:
        known = {"claimUID": claim["metadata"]["uid"]}
        if volume_name := claim["spec"].get("volumeName"):
            known["volumeName"] = volume_name
    if lost:
        known["lostClaim"] = {"uid": lost[0].uid, "volumeName": lost[0].volume}
    return known


def _last_error(outcome: Outcome, previous: Unstructured | None) -> Unstructured | None:
    """Return `status.lastError`; None if the reconcile succeeded.

    A repeated failure keeps the time of its first occurrence. Its attempt count is updated only while the queue retries, and at
    most once a minute, so that a lasting fault does not cause a write on every attempt.
    """
    if outcome.failure is None:
        return None
    reason, message = outcome.failure.error.reason, printable(outcome.failure.error.message)[:MESSAGE_MAX]
    next_retry = outcome.failure.next_retry
    since, known = format_time(outcome.now), previous or {}
    if "time" in known and (known.get("reason"), known.get("message")) == (reason, message):
        since = known["time"]
        last_written = parse_time(str(known.get("nextRetryTime", since)))
        if next_retry is None or outcome.now - last_written < _ERROR_REFRESH:
            return known
    error: Unstructured = {
        "reason": reason,
        "message": message,
        "time": since,
        "attempts": outcome.failure.attempts,
    }
    if next_retry is not None:
        error["nextRetryTime"] = format_time(next_retry)
    return error
