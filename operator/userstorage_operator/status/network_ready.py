"""Whether the user can be reached as the class wants: the condition NetworkReady, and the URL."""

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.userstorageclass import PolicyMode, UserStorageClass
from userstorage_operator.api.variables import expand
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import Snapshot, is_ours, is_terminating
from userstorage_operator.plan import exposure
from userstorage_operator.plan.deferred_changes import served_path
from userstorage_operator.plan.diff import child_patch
from userstorage_operator.status.outcome import Outcome


def network_ready(outcome: Outcome) -> Condition:
    """Whether Service, NetworkPolicy, and what leads in from outside, are in place. What was planned but failed is not."""
    finding = _not_ready_finding(outcome)
    if finding is not None:
        return Condition(reasons.NETWORK_READY, False, finding.reason, finding.message)
    *others, last = [kind.resource.kind for kind in (Kind.SERVICE, Kind.NETWORK_POLICY, *EXPOSURE) if _is_wanted(kind, outcome)]
    words = f"{', '.join(others)} and {last} are in place" if others else f"{last} is in place"
    return Condition(reasons.NETWORK_READY, True, "Synced", words)


def _is_wanted(kind: Kind, outcome: Outcome) -> bool:
    """Where what is wanted could not be told: what everybody has, and, as far as the class is known, what all of it have."""
    if outcome.desired is not None:
        return getattr(outcome.desired, kind.field) is not None
    cls = outcome.snapshot.cls
    return kind is Kind.SERVICE or (kind is Kind.NETWORK_POLICY and cls is not None and cls.policy is PolicyMode.MANAGED)


def _not_ready_finding(outcome: Outcome) -> Finding | None:
    snapshot, desired, uid = outcome.snapshot, outcome.desired, outcome.snapshot.storage.meta.uid
    for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, *EXPOSURE):
        live, what = getattr(snapshot.children, kind.field), kind.resource.kind
        there = live is not None and is_ours(live, uid) and not is_terminating(live)
        if _is_wanted(kind, outcome) and not there:
            return Finding("Pending", f"the {what} is not there yet")
        if desired is None:
            continue
        wanted = getattr(desired, kind.field)
        if wanted is not None and child_patch(wanted, live):
            return Finding("OutOfSync", f"the {what} was changed and not put right yet")
        if wanted is None and there:
            return Finding("OutOfSync", f"the {what} is no longer wanted and not removed yet")
    if snapshot.exposure_conflict is not None:
        return snapshot.exposure_conflict
    if desired is not None and desired.http_route is not None and snapshot.children.http_route is not None:
        return exposure.route_rejection(snapshot.children.http_route)
    return None


def url(snapshot: Snapshot, cls: UserStorageClass) -> str:
    """Where the browser is reached, as things stand: from outside only once something leads in, else inside the cluster, at the
    path that the pod serves, if there is one.
    """
    children, storage = snapshot.children, snapshot.storage
    for child in (children.ingress, children.http_route):
        if child is None or not is_ours(child, storage.meta.uid) or is_terminating(child):
            continue
        at = exposure.served_host(child)
        if at is None or (child is children.http_route and exposure.route_rejection(child) is not None):
            continue
        # What the class says of TLS: at a Gateway the listener decides, and Gateways are not ours to read.
        return f"{'http' if cls.exposure.tls_secret_name is None else 'https'}://{at.host}{at.path}"
    path = served_path(snapshot) or expand(cls.browser.base_path, storage)
    return f"http://{names.child_name(storage.slug)}.{storage.meta.namespace}.svc{path}"
