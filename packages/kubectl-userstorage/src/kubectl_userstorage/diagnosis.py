"""What `doctor` concludes from what it has read. Pure."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from kubectl_userstorage.api import Raw

OLDEST_KUBERNETES = (1, 32)
"""docs/install.md#requirements."""
_WATCH_SILENCE_MAX = 120.0
"""Seconds, as in the alert UserStorageWatchStale."""
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_METRIC = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Check(NamedTuple):
    """One line of the diagnosis. `next_step` is empty if there is nothing to do."""

    name: str
    state: State
    message: str
    next_step: str = ""


def kubernetes(version: str) -> Check:
    """Check the version of the API server."""
    found = _VERSION.match(version)
    if found is None:
        return Check("Kubernetes", State.UNKNOWN, f"{version} is no version that can be read")
    if (int(found[1]), int(found[2])) < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        return Check("Kubernetes", State.FAILED, f"{version} is older than {oldest}", "upgrade the cluster")
    return Check("Kubernetes", State.OK, version)


def definition(name: str, crd: Raw | None) -> Check:
    """Check a CustomResourceDefinition; None if it does not exist."""
    title = f"CRD {name.partition('.')[0]}"
    apply = "kubectl apply -k deploy/crds"
    if crd is None:
        return Check(title, State.FAILED, f"{name} does not exist", apply)
    states = {entry["type"]: entry["status"] for entry in (crd.get("status") or {}).get("conditions") or ()}
    served = [version["name"] for version in crd["spec"]["versions"] if version.get("served")]
    if "v1" not in served:
        return Check(title, State.FAILED, f"serves {', '.join(served) or 'no version'} and not v1", apply)
    if states.get("Established") != "True":
        return Check(title, State.FAILED, "is not established", f"kubectl describe crd {name}")
    if "deletionTimestamp" in crd["metadata"]:
        return Check(title, State.FAILED, "is being deleted, with all its objects", f"kubectl get crd {name} -o yaml")
    return Check(title, State.OK, f"serves {', '.join(served)}")


def policies(wanted: frozenset[str], found: list[Raw], bindings: list[Raw]) -> Check:
    """Check that the admission policies of deploy/admission exist and deny."""
    names = {raw["metadata"]["name"] for raw in found}
    enforced = {raw["spec"]["policyName"] for raw in bindings if "Deny" in (raw["spec"].get("validationActions") or ())}
    missing = sorted(wanted - names)
    apply = "kubectl apply -k deploy/admission"
    if missing:
        return Check("admission policies", State.WARNING, f"not installed: {', '.join(missing)}", apply)
    idle = sorted(wanted - enforced)
    if idle:
        return Check("admission policies", State.WARNING, f"not enforced, no binding denies: {', '.join(idle)}", apply)
    return Check("admission policies", State.OK, f"{len(wanted)} enforced")


def deployment(title: str, raw: Raw | None, namespace: str, *, is_optional: bool) -> Check:
    """Check a Deployment; None if it does not exist."""
    if raw is None:
        if is_optional:
            return Check(
                title,
                State.WARNING,
                f"not installed in {namespace}: nothing decides who may open which address",
                "docs/gate.md",
            )
        return Check(title, State.FAILED, f"not installed in {namespace}", "--operator-namespace, or kubectl apply -k deploy")
    wanted, ready = raw["spec"].get("replicas", 1), (raw.get("status") or {}).get("readyReplicas", 0)
    images = ", ".join(container["image"] for container in raw["spec"]["template"]["spec"]["containers"])
    name = raw["metadata"]["name"]
    if ready < wanted or wanted == 0:
        state = State.FAILED if ready == 0 else State.WARNING
        step = f"kubectl describe pods -n {namespace} -l app.kubernetes.io/name={name}"
        return Check(title, state, f"{ready} of {wanted} replicas ready ({images})", step)
    return Check(title, State.OK, f"{ready} of {wanted} replicas ready ({images})")


def versions(pods: list[Raw]) -> Check:
    """Check that all replicas of the operator run one image."""
    images = sorted({container["image"] for pod in pods for container in pod["spec"]["containers"]})
    if len(images) > 1:
        return Check(
            "versions", State.WARNING, f"replicas run different images: {', '.join(images)}", "wait for the rollout to end"
        )
    return Check("versions", State.OK if images else State.UNKNOWN, ", ".join(images) or "no replica runs")


def election(lease: Raw | None, pods: list[Raw], now: datetime) -> Check:
    """Check the leader election."""
    title, step = "leader election", "kubectl get lease userstorage-operator -n {} -o yaml"
    if lease is None:
        return Check(title, State.FAILED, "there is no Lease: no operator has ever led", "")
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity") or ""
    step = step.format(lease["metadata"]["namespace"])
    if not holder:
        return Check(title, State.FAILED, "no replica leads", step)
    renewed = datetime.fromisoformat(spec["renewTime"])
    silent = (now - renewed).total_seconds()
    if silent > spec.get("leaseDurationSeconds", 0):
        return Check(title, State.FAILED, f"{holder} has not renewed the Lease for {silent:.0f} s", step)
    known = any(holder.startswith(pod["metadata"]["name"]) for pod in pods)
    if not known:
        return Check(
            title,
            State.WARNING,
            f"{holder} leads, which is no pod of the Deployment",
            "stop the process outside of the cluster",
        )
    return Check(title, State.OK, f"{holder} leads, renewed {max(silent, 0):.0f} s ago")


def replica(name: str, namespace: str, ready: Raw) -> list[Check]:
    """Check what a replica answers at /ready."""
    step = f"kubectl logs {name} -n {namespace}"
    checks = [
        Check(f"replica {name}", State.FAILED, f"{kind}: {text}", step)
        for kind, text in sorted(ready.get("failing", {}).items())
    ]
    checks += [
        Check(f"replica {name}", State.WARNING, f"{kind}: {text}", step)
        for kind, text in sorted(ready.get("degraded", {}).items())
    ]
    return checks or [Check(f"replica {name}", State.OK, str(ready.get("role") or ready.get("status")))]


def metrics(name: str, namespace: str, text: str) -> list[Check]:
    """Check what a replica's /metrics say about Redis and its watches."""
    checks = []
    values = [(metric, labels or "", float(value)) for metric, labels, value in _METRIC.findall(text)]
    breaker = [labels for metric, labels, value in values if metric == "userstorage_redis_breaker_state" and value == 1]
    for labels in breaker:
        state = labels.partition('"')[2].rstrip('"')
        is_closed = state == "closed"
        step = "" if is_closed else f"kubectl userstorage cache --operator-namespace {namespace}"
        checks.append(Check(f"Redis of {name}", State.OK if is_closed else State.WARNING, f"circuit breaker {state}", step))
    silences = {labels: value for metric, labels, value in values if metric == "userstorage_watch_silence_seconds"}
    if silences:
        labels, longest = max(silences.items(), key=lambda item: item[1])
        resource = labels.partition('"')[2].rstrip('"')
        is_late = longest > _WATCH_SILENCE_MAX
        message = f"the quietest of {len(silences)} watches, {resource}, was heard {longest:.0f} s ago"
        step = f"kubectl logs {name} -n {namespace}" if is_late else ""
        checks.append(Check(f"watches of {name}", State.WARNING if is_late else State.OK, message, step))
    return checks


def guards(classes: list[Raw], gateways: list[Raw], managed: int) -> list[Check]:
    """Check what keeps users from each other, as far as the cluster shows it."""
    checks = []
    unmanaged = [
        cls["metadata"]["name"] for cls in classes if ((cls.get("spec") or {}).get("network") or {}).get("policy") == "None"
    ]
    if unmanaged:
        names = ", ".join(unmanaged)
        checks.append(
            Check(
                "NetworkPolicies", State.WARNING, f"not managed by the classes {names}: write them yourself", "docs/security.md"
            )
        )
    message = f"{managed} exist; whether the network plugin enforces them is not visible: connect from a pod without the label"
    checks.append(Check("NetworkPolicies", State.UNKNOWN, message, "docs/security.md#labels-and-networkpolicies"))
    if not gateways:
        message = (
            "no namespace has the label userstorage.dev/gateway=true: no gateway reaches the browsers, unless classes name it"
        )
        checks.append(Check("gateways", State.WARNING, message, "kubectl label namespace GATEWAY userstorage.dev/gateway=true"))
    else:
        names = ", ".join(raw["metadata"]["name"] for raw in gateways)
        checks.append(Check("gateways", State.OK, f"pods of these namespaces may connect to every browser: {names}"))
    message = "whether the gateway asks the gate is not visible: open alice's address as bob, who must get 403"
    checks.append(Check("gate wiring", State.UNKNOWN, message, "docs/gate.md#install"))
    return checks


def class_state(cls: Raw) -> Check:
    """Check the condition Ready of a class."""
    name = cls["metadata"]["name"]
    found = [entry for entry in (cls.get("status") or {}).get("conditions") or () if entry["type"] == "Ready"]
    if not found:
        return Check(f"class {name}", State.UNKNOWN, "has no condition Ready: the operator has not processed it")
    [ready] = found
    if ready["status"] == "True":
        return Check(f"class {name}", State.OK, ready["reason"])
    step = f"kubectl userstorage explain userstorageclass/{name}"
    return Check(f"class {name}", State.FAILED, f"{ready['reason']}: {ready.get('message', '')}", step)


def utc_now() -> datetime:
    """Return the time of this machine."""
    return datetime.now(UTC)


def rights(missing: dict[str, list[str]], namespace: str, system: str) -> list[Check]:
    """Check the rights of the caller: namespace -> those that are missing, as `get pods/log`."""
    found = []
    if lacking := missing.get(namespace):
        step = f"have a cluster admin bind the ClusterRole edit in {namespace}, and apply deploy/rbac, which adds UserStorages to it"
        found.append(Check("your rights", State.WARNING, f"in namespace {namespace} you may not {', '.join(lacking)}", step))
    if (lacking := missing.get(system)) and system != namespace:
        message = f"in namespace {system} you may not {', '.join(lacking)}; only cache, doctor and report need that"
        found.append(Check("rights of an admin", State.UNKNOWN, message))
    return found or [Check("your rights", State.OK, f"all that the plugin needs in the namespaces {namespace} and {system}")]
