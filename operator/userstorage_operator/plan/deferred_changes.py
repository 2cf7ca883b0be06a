"""Changes of a class that do not apply at once: a pod keeps its port, its URL path and those who may reach it until it is replaced,
a claim keeps its size and the owner of its files.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import Expose, Ids
from userstorage_operator.observed.claim_usage import mounted_claims
from userstorage_operator.observed.pod_status import is_ready
from userstorage_operator.observed.snapshot import Snapshot, claim_is_ours, is_adoptable, is_ours, is_terminating
from userstorage_operator.plan import child, exposure
from userstorage_operator.plan.builders import Desired
from userstorage_operator.plan.finalizers import selects


def current_claim_size(snapshot: Snapshot) -> str | None:
    """Return the size that the claim requests; None if the operator did not create the claim, or there is none."""
    claim = snapshot.children.pvc
    if claim is None or snapshot.storage.storage.claim_name is not None or not claim_is_ours(claim, snapshot.storage):
        return None
    return str(claim["spec"]["resources"]["requests"]["storage"])


def ids_of_files(snapshot: Snapshot) -> Ids | None:
    """Return the ids to which the files of the user belong: no other user may write them all. None if nothing is known, as there
    is no claim yet, or no pod has served the claim that the spec names.

    An annotation records them: of the user's own claim when it is created, and for a claim that the spec names, of the Service once a
    pod is ready on it. Without a record, they are those of the pod that uses the claim.
    """
    claim, pod, named = snapshot.children.pvc, _live(Kind.POD, snapshot), snapshot.storage.storage.claim_name
    if named is not None:
        recorded_claim, _, ids = _annotation(_live(Kind.SERVICE, snapshot), names.ANNOTATION_RUN_AS).partition(" ")
        recorded = Ids.read(ids) if recorded_claim == named else None
        if recorded is None and pod is not None and is_ready(pod) and named in mounted_claims(pod):
            recorded = _ids_of(pod)
        return recorded
    if claim is None or not claim_is_ours(claim, snapshot.storage):
        return None
    recorded = Ids.read(_annotation(claim, names.ANNOTATION_RUN_AS))
    return _ids_of(pod) if recorded is None and pod is not None else recorded


def record_ids(desired: Desired, snapshot: Snapshot) -> Desired:
    """Return the desired children with the record of `ids_of_files` in the Service, if the spec names a claim: the claim belongs to
    another, and a Service outlives the pod.
    """
    named, ids = snapshot.storage.storage.claim_name, ids_of_files(snapshot)
    if named is None or ids is None:
        return desired
    meta = desired.service["metadata"]
    annotations = meta["annotations"] | {names.ANNOTATION_RUN_AS: f"{named} {ids}"}
    return replace(desired, service=desired.service | {"metadata": meta | {"annotations": annotations}})


def _ids_of(pod: Unstructured) -> Ids | None:
    security = pod["spec"].get("securityContext") or {}
    return Ids.read(":".join(str(security.get(field)) for field in ("runAsUser", "runAsGroup", "fsGroup")))


def _annotation(child: Unstructured | None, name: str) -> str:
    return str((child["metadata"].get("annotations") or {}).get(name, "")) if child is not None else ""


def served_path(snapshot: Snapshot) -> str | None:
    """Return the URL path at which our pod serves, from its annotation; None without our pod or without a valid annotation."""
    pod = snapshot.own_pod
    if pod is None:
        return None
    path = _annotation(pod, names.ANNOTATION_BASE_PATH)
    # Without this check, an account that may edit pods could write `@example.org/` and so change the host of the URL.
    return path if path.startswith("/") else None


def keep_current_access(desired: Desired, snapshot: Snapshot, *, paced: bool) -> Desired:
    """Return the desired children for a pod that is outdated, as long as it exists: who may reach it stays as it was when it was
    current. A class may open its users only because its next pods ask for a login.

    What the class withdraws is removed at once; if `paced`, the pod waits for its turn in the rollout of its class, and that waits,
    too, so that no class change takes it from all users at once. Kept are the live objects: an account that may edit pods could
    otherwise direct visitors of other users to its own pod. Sources that another writer added stay until then; an account that
    may change NetworkPolicies could create one that lets in the same.
    """
    policy = _current_policy(desired, snapshot, paced=paced)
    if _annotation(snapshot.children.pod, names.ANNOTATION_EXPOSURE_HASH) == desired.exposure_hash:
        return replace(desired, network_policy=policy)
    is_withdrawn = snapshot.cls is not None and snapshot.cls.exposure.expose is Expose.CLUSTER_IP and not paced
    current: dict[str, Any] = dict.fromkeys(kind.field for kind in EXPOSURE)
    for kind in EXPOSURE:
        live = _live(kind, snapshot)
        if live is not None and not is_withdrawn and _is_kept(live, snapshot):
            current[kind.field] = _as_desired(kind, live, exposure.without_foreign_paths(live), desired)
    return replace(desired, network_policy=policy, **current)


def _current_policy(desired: Desired, snapshot: Snapshot, *, paced: bool) -> Unstructured | None:
    """Return the NetworkPolicy of an outdated pod: with its port, and no sources besides those that it has. If the class manages
    no policies any more, it stays.
    """
    policy, live = desired.network_policy, _live(Kind.NETWORK_POLICY, snapshot)
    is_unchanged = _annotation(snapshot.children.pod, names.ANNOTATION_SOURCES_HASH) == desired.sources_hash
    if policy is None:
        if live is None or is_unchanged:
            return None
        selector = {"matchLabels": desired.service["spec"]["selector"], "matchExpressions": None}
        closed = {"podSelector": selector, "policyTypes": ["Ingress", "Egress"], "egress": None}
        return _as_desired(Kind.NETWORK_POLICY, live, live["spec"] | closed, desired)
    [rule] = policy["spec"]["ingress"]
    sources = _sources(live) if live is not None and not is_unchanged else None
    if sources is not None and not paced:
        granted = [peer for peer in sources if any(_includes(wanted, peer) for wanted in rule["from"])]
        sources = granted or sources  # none would let in all
    port = _port(snapshot)
    rule = rule | ({"from": sources} if sources is not None else {})
    rule = rule | ({"ports": [{"port": port, "protocol": "TCP"}]} if port is not None else {})
    return policy | {"spec": policy["spec"] | {"ingress": [rule]}}


def keep_current_selectors(desired: Desired, snapshot: Snapshot) -> Desired:
    """Return the desired children with the selectors by which the live Service and NetworkPolicy find the pod, as long as it lacks
    the labels of the desired ones: a pod of an earlier build gets the label first, and is never without its policy.
    """
    pod, kept = snapshot.children.pod, dict[str, Any]()
    if pod is None or selects(desired.service["spec"]["selector"], pod):
        return desired
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE):
        child, live = getattr(desired, kind.field), _live(kind, snapshot)
        if child is not None and live is not None and selects(selector_of(live), pod):
            kept[kind.field] = child | {"spec": child["spec"] | _selecting(live)}
    return replace(desired, **kept)


def selector_of(child: Unstructured) -> Mapping[str, str]:
    """Return the labels by which a Service or NetworkPolicy selects the pod."""
    spec = child["spec"]
    return ((spec.get("podSelector") or {}).get("matchLabels") if "podSelector" in spec else spec.get("selector")) or {}


def _selecting(live: Unstructured) -> Unstructured:
    labels = dict(selector_of(live))
    return (
        {"podSelector": {"matchLabels": labels, "matchExpressions": None}}
        if "podSelector" in live["spec"]
        else {"selector": labels}
    )


def _live(kind: Kind, snapshot: Snapshot) -> Unstructured | None:
    """Return the child of that kind if it is ours, or will be adopted; else None."""
    child: Unstructured | None = getattr(snapshot.children, kind.field)
    if child is None or not (is_ours(child, snapshot.storage.meta.uid) or is_adoptable(child, snapshot.storage)):
        return None
    return child


def _sources(policy: Unstructured) -> list[Any] | None:
    """Return the sources that a live NetworkPolicy allows; None if it has no single rule, or one that allows every source."""
    rules: list[Unstructured] = policy["spec"].get("ingress") or []
    return (rules[0].get("from") or None) if len(rules) == 1 else None


def _includes(peer: Unstructured, other: Unstructured) -> bool:
    """Whether the first peer of a NetworkPolicy visibly lets in all that the other one does."""
    if "ipBlock" in peer or "ipBlock" in other:
        return peer == other
    namespaces, pods = peer.get("namespaceSelector"), peer.get("podSelector") or {}
    return namespaces in ({}, other.get("namespaceSelector")) and pods in ({}, other.get("podSelector") or {})


def _is_kept(live: Unstructured, snapshot: Snapshot) -> bool:
    """Whether a live Ingress or HTTPRoute still leads to this user, and its host is not another UserStorage's."""
    served = exposure.served_host(live)
    if served is None or is_terminating(live) or not exposure.leads_to(live, names.child_name(snapshot.storage.slug)):
        return False
    if snapshot.exposure_conflict is None or snapshot.cls is None:
        return True
    return served != exposure.host_path(snapshot.storage, snapshot.cls)


def _as_desired(kind: Kind, live: Unstructured, spec: Unstructured, desired: Desired) -> Unstructured:
    """Return a live child with that spec as a desired one: with our metadata beside that of others. The caches keep no apiVersion."""
    meta, own = live["metadata"], desired.service["metadata"]
    metadata = own | {
        "labels": {**(meta.get("labels") or {}), **own["labels"]},
        "annotations": {
            **(meta.get("annotations") or {}),
            names.ANNOTATION_USER_ID: own["annotations"][names.ANNOTATION_USER_ID],
        },
        "finalizers": [names.FINALIZER] if kind is Kind.NETWORK_POLICY else [],
    }
    return child.manifest(kind.resource.api_version, kind.resource.kind, metadata, spec)


def _port(snapshot: Snapshot) -> int | None:
    pod = snapshot.children.pod
    containers = pod["spec"]["containers"] if pod is not None else ()
    ports = (port for container in containers if container["name"] == names.CONTAINER for port in container.get("ports") or ())
    return next((port["containerPort"] for port in ports if port.get("name") == "http"), None)
