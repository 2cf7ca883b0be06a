"""Changes of a class that do not apply at once: a pod keeps port and URL path until it is replaced, a claim keeps its size and
the owner of its files.
"""

from dataclasses import replace
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import Ids
from userstorage_operator.observed.snapshot import Snapshot, claim_is_ours, is_terminating
from userstorage_operator.plan import exposure
from userstorage_operator.plan.builders import Desired


def current_claim_size(snapshot: Snapshot) -> str | None:
    """Return the size that the claim requests; None if the operator did not create the claim, or there is none."""
    claim = snapshot.children.pvc
    if claim is None or snapshot.storage.storage.claim_name is not None or not claim_is_ours(claim, snapshot.storage):
        return None
    return str(claim["spec"]["resources"]["requests"]["storage"])


def ids_of_files(snapshot: Snapshot) -> Ids | None:
    """Return the ids to which the files of the user's own claim belong: no other user may write them all. None if there is no
    claim yet, or nothing is known.

    An annotation of the claim records them when it is created; for a claim without one, they are those of the pod that uses it.
    """
    claim, pod = snapshot.children.pvc, snapshot.own_pod
    if claim is None or snapshot.storage.storage.claim_name is not None or not claim_is_ours(claim, snapshot.storage):
        return None
    recorded = Ids.read(str((claim["metadata"].get("annotations") or {}).get(names.ANNOTATION_RUN_AS, "")))
    if recorded is None and pod is not None:
        security = pod["spec"].get("securityContext") or {}
        recorded = Ids.read(":".join(str(security.get(field)) for field in ("runAsUser", "runAsGroup", "fsGroup")))
    return recorded


def served_path(snapshot: Snapshot) -> str | None:
    """Return the URL path at which our pod serves, from its annotation; None without our pod or without a valid annotation."""
    pod = snapshot.own_pod
    if pod is None:
        return None
    path = str((pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_BASE_PATH, ""))
    # Without this check, an account that may edit pods could write `@example.org/` and so change the host of the URL.
    return path if path.startswith("/") else None


def keep_current_endpoint(desired: Desired, snapshot: Snapshot) -> Desired:
    """Return `desired` with the port and URL path of the current pod, which is outdated but not replaced yet.

    The NetworkPolicy keeps the port of the pod. Ingress and HTTPRoute keep their URL path, and with it their host: a host that
    many users share, with the path `/` of a host of one's own, would be all of it. If only the host changes, it changes at once.
    The path is read from the live Ingress or HTTPRoute, not from the pod's annotation: an account that may edit pods could
    otherwise direct visitors of other users to its own pod.
    """
    kept: dict[str, Any] = {}
    if desired.network_policy is not None and (port := _port(snapshot)) is not None:
        [rule] = desired.network_policy["spec"]["ingress"]
        ingress = [rule | {"ports": [{"port": port, "protocol": "TCP"}]}]
        kept["network_policy"] = desired.network_policy | {"spec": desired.network_policy["spec"] | {"ingress": ingress}}
    for kind in EXPOSURE:
        exposure_child, live = getattr(desired, kind.field), snapshot.own(kind)
        if exposure_child is None or live is None:
            continue
        served, wanted = exposure.served_host(live), exposure.served_host(exposure_child)
        if served is not None and wanted is not None and served.path != wanted.path:
            kept[kind.field] = exposure.with_place(exposure_child, served)
    return replace(desired, **kept)


def keep_current_access(desired: Desired, snapshot: Snapshot) -> Desired:
    """Return the desired children for a pod that waits for its turn in the rollout of its class: as `keep_current_endpoint`, and
    the sources of the NetworkPolicy and the Ingress or HTTPRoute stay as they are, so that no class change takes them from all
    users at once.

    Kept are the live ones. Sources that another writer added stay until then; an account that may change NetworkPolicies could
    create one that lets in the same.
    """
    desired = keep_current_endpoint(desired, snapshot)
    kept: dict[str, Any] = {}
    if desired.network_policy is not None and (sources := _sources(snapshot)) is not None:
        [rule] = desired.network_policy["spec"]["ingress"]
        spec = desired.network_policy["spec"] | {"ingress": [rule | {"from": sources}]}
        kept["network_policy"] = desired.network_policy | {"spec": spec}
    current = {kind.field: live for kind in EXPOSURE if (live := snapshot.own(kind)) is not None and _is_kept(live, snapshot)}
    if current:
        kept |= {kind.field: None for kind in EXPOSURE}
        kept |= {field: _with_own_labels(live, desired) for field, live in current.items()}
    return replace(desired, **kept)


def _sources(snapshot: Snapshot) -> list[Any] | None:
    """Return the sources that the live NetworkPolicy allows; None if it has no single rule, or one that allows every source."""
    policy = snapshot.own(Kind.NETWORK_POLICY)
    rules: list[Unstructured] = (policy["spec"].get("ingress") or []) if policy is not None else []
    return (rules[0].get("from") or None) if len(rules) == 1 else None


def _is_kept(live: Unstructured, snapshot: Snapshot) -> bool:
    """Whether a live Ingress or HTTPRoute still leads to this user, and its host is not another UserStorage's."""
    served = exposure.served_host(live)
    if served is None or is_terminating(live) or not exposure.leads_to(live, names.child_name(snapshot.storage.slug)):
        return False
    if snapshot.exposure_conflict is None or snapshot.cls is None:
        return True
    return served != exposure.host_path(snapshot.storage, snapshot.cls)


def _with_own_labels(live: Unstructured, desired: Desired) -> Unstructured:
    """Return a live child as a desired one: with the labels by which the operator finds it."""
    meta, own = live["metadata"], desired.service["metadata"]
    labels = {**(meta.get("labels") or {}), **own["labels"]}
    annotations = {**(meta.get("annotations") or {}), names.ANNOTATION_USER_ID: own["annotations"][names.ANNOTATION_USER_ID]}
    return live | {"metadata": meta | {"labels": labels, "annotations": annotations}}


def _port(snapshot: Snapshot) -> int | None:
    pod = snapshot.children.pod
    containers = pod["spec"]["containers"] if pod is not None else ()
    ports = (port for container in containers if container["name"] == names.CONTAINER for port in container.get("ports") or ())
    return next((port["containerPort"] for port in ports if port.get("name") == "http"), None)
