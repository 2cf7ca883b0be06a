"""The condition NetworkReady, and `status.url`: whether and where the file browser can be reached."""

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorageclass import PolicyMode, UserStorageClass
from userstorage_operator.api.variables import base_path
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot, is_terminating
from userstorage_operator.plan import exposure
from userstorage_operator.plan.deferred_changes import selector_of, served_path
from userstorage_operator.plan.diff import child_patch
from userstorage_operator.plan.finalizers import foreign_finalizers, is_held, selects
from userstorage_operator.status.outcome import Outcome

_KINDS = (Kind.NETWORK_POLICY, Kind.SERVICE, *EXPOSURE)
"""The most serious first: without its policy, a pod is open to other pods."""

_CONSEQUENCES = {Kind.NETWORK_POLICY: "other pods can reach it", Kind.SERVICE: "no request reaches it"}
"""Kind of a child that selects the pod -> what follows if it does not."""


def network_ready(outcome: Outcome) -> Condition:
    """Return the condition NetworkReady: whether Service, NetworkPolicy and Ingress or HTTPRoute exist as desired.

    A change that was planned but failed counts as not done.
    """
    finding = _not_ready_finding(outcome)
    if finding is not None:
        return Condition(reasons.NETWORK_READY, False, finding.reason, finding.message)
    kinds = [kind.resource.kind for kind in (Kind.SERVICE, Kind.NETWORK_POLICY, *EXPOSURE) if _is_desired(kind, outcome)]
    *first, last = kinds
    message = f"{', '.join(first)} and {last} are in place" if first else f"{last} is in place"
    return Condition(reasons.NETWORK_READY, True, "Synced", message)


def _is_desired(kind: Kind, outcome: Outcome) -> bool:
    """Whether a child of that kind should exist.

    If the desired children could not be rendered, only the Service should, and the NetworkPolicy if the class is known
    and asks for it.
    """
    if outcome.desired is not None:
        return getattr(outcome.desired, kind.field) is not None
    cls = outcome.snapshot.cls
    return kind is Kind.SERVICE or (kind is Kind.NETWORK_POLICY and cls is not None and cls.policy is PolicyMode.MANAGED)


def _not_ready_finding(outcome: Outcome) -> Finding | None:
    snapshot, desired, contest = outcome.snapshot, outcome.desired, outcome.contest(*_KINDS, Kind.POD)
    if (unselected := _unselected_message(outcome)) is not None:
        return Finding("OutOfSync", f"{unselected}; {contest.message}" if contest is not None else unselected)
    if contest is not None:
        return Finding("Contested", contest.message)
    for kind in _KINDS:
        live, name = snapshot.own(kind), kind.resource.kind
        exists = live is not None and (not is_terminating(live) or is_held(live))
        if _is_desired(kind, outcome) and not exists:
            return Finding("Pending", _pending_message(name, live))
        if desired is None:
            continue
        child = getattr(desired, kind.field)
        if child is not None and live is not None and child_patch(child, live):
            return Finding("OutOfSync", f"the {name} differs from the desired one and has not been repaired yet")
        if child is None and exists:
            return Finding("OutOfSync", f"the {name} is no longer needed and has not been deleted yet")
    if snapshot.exposure_conflict is not None:
        return snapshot.exposure_conflict
    if desired is not None and desired.http_route is not None and snapshot.children.http_route is not None:
        return exposure.route_rejection(snapshot.children.http_route)
    return None


def _pending_message(name: str, live: Unstructured | None) -> str:
    finalizers = foreign_finalizers(live) if live is not None else []
    if not finalizers:
        return f"the {name} has not been created yet"
    return f"the former {name} is being deleted, and finalizers of other controllers keep it: {', '.join(finalizers)}"


def _unselected_message(outcome: Outcome) -> str | None:
    """Return that our pod lacks the labels by which the live NetworkPolicy or Service selects it; None if it has them."""
    pod = outcome.snapshot.own_pod
    for kind, consequence in _CONSEQUENCES.items():
        live = outcome.snapshot.own(kind)
        if pod is None or live is None or not _is_desired(kind, outcome) or selects(selector_of(live), pod):
            continue
        wanted = ", ".join(f"{key}={value}" for key, value in sorted(selector_of(live).items()))
        return f"the pod lacks the labels by which the {kind.resource.kind} selects it ({wanted}), so {consequence}"
    return None


def url(snapshot: Snapshot, cls: UserStorageClass) -> str | None:
    """Return the URL of the file browser: the external URL once an Ingress or an accepted HTTPRoute exists.

    Until then, return the URL inside the cluster, with the URL path of the current pod, or of the class if there is no pod;
    None if the class gives no valid path.
    """
    storage = snapshot.storage
    for kind in EXPOSURE:
        child = snapshot.own(kind)
        if child is None or is_terminating(child):
            continue
        served = exposure.served_host(child)
        if served is None or (kind is Kind.HTTP_ROUTE and exposure.route_rejection(child) is not None):
            continue
        # TLS of an HTTPRoute as the class states it: a Gateway's listener decides, and the operator may not read Gateways.
        secure = bool(child["spec"].get("tls")) if kind is Kind.INGRESS else cls.exposure.tls_secret_name is not None
        return f"{'https' if secure else 'http'}://{served.host}{served.path}"
    try:
        path = served_path(snapshot) or base_path(storage, cls)
    except InvalidSpec:
        return None
    return f"http://{names.child_name(storage.slug)}.{storage.meta.namespace}.svc{path}"
