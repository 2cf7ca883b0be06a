"""What a change of the class does not reach at once: it holds for as long as the pod, or the claim, that has it."""

from dataclasses import replace
from typing import Any

from userstorage_operator.api import names
from userstorage_operator.api.resources import EXPOSURE
from userstorage_operator.observed.snapshot import Snapshot, claim_is_ours, is_ours
from userstorage_operator.plan import exposure
from userstorage_operator.plan.builders import Desired


def current_claim_size(snapshot: Snapshot) -> str | None:
    """The size that the claim of this user has asked for, which it cannot give back; None where there is none."""
    claim = snapshot.children.pvc
    if claim is None or snapshot.storage.storage.claim_name is not None or not claim_is_ours(claim, snapshot.storage):
        return None
    return str(claim["spec"]["resources"]["requests"]["storage"])


def served_path(snapshot: Snapshot) -> str | None:
    """The path under which the pod serves; None where there is no pod of ours that says so."""
    pod = snapshot.children.pod
    if pod is None or not is_ours(pod, snapshot.storage.meta.uid):
        return None
    path = str((pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_BASE_PATH, ""))
    # Who may edit pods could write `@example.org/` and so make another host of it.
    return path if path.startswith("/") else None


def keep_current_endpoint(wanted: Desired, snapshot: Snapshot) -> Desired:
    """What is wanted, while a pod of an older spec is left running: the port in the policy stays that of the pod, and the paths
    from outside those that lead to it.

    Not those that the pod's annotation says: who may edit pods could lead others' visitors to a pod of theirs by it.
    """
    before: dict[str, Any] = {}
    if wanted.network_policy is not None and (port := _port(snapshot)) is not None:
        [rule] = wanted.network_policy["spec"]["ingress"]
        ingress = [rule | {"ports": [{"port": port, "protocol": "TCP"}]}]
        before["network_policy"] = wanted.network_policy | {"spec": wanted.network_policy["spec"] | {"ingress": ingress}}
    for kind in EXPOSURE:
        leads_in, live = getattr(wanted, kind.field), getattr(snapshot.children, kind.field)
        if leads_in is None or live is None or not is_ours(live, snapshot.storage.meta.uid):
            continue
        if (place := exposure.served_host(live)) is not None:
            before[kind.field] = exposure.with_path(leads_in, place.path)
    return replace(wanted, **before)


def _port(snapshot: Snapshot) -> int | None:
    pod = snapshot.children.pod
    containers = pod["spec"]["containers"] if pod is not None else ()
    ports = (port for container in containers if container["name"] == names.CONTAINER for port in container.get("ports") or ())
    return next((port["containerPort"] for port in ports if port.get("name") == "http"), None)
