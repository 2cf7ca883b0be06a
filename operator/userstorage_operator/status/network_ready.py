"""Whether the user can be reached as the class wants: the condition NetworkReady, and the URL."""

from userstorage_operator.api import names, reasons
from userstorage_operator.api.conditions import Condition
from userstorage_operator.api.resources import EXPOSURE, Kind
from userstorage_operator.api.userstorageclass import PolicyMode, UserStorageClass
from userstorage_operator.api.variables import expand
from userstorage_operator.observed.pod_status import Finding
from userstorage_operator.observed.snapshot import World, is_ours, is_terminating
from userstorage_operator.plan import exposure
from userstorage_operator.plan.deferred_changes import served_path
from userstorage_operator.plan.diff import child_patch
from userstorage_operator.status.outcome import Verdict


def network_ready(verdict: Verdict) -> Condition:
    """Whether Service, NetworkPolicy, and what leads in from outside, are in place. What was planned but failed is not."""
    finding = _why_not(verdict)
    if finding is not None:
        return Condition(reasons.NETWORK_READY, False, finding.reason, finding.message)
    *others, last = [kind.resource.kind for kind in (Kind.SERVICE, Kind.POLICY, *EXPOSURE) if _is_wanted(kind, verdict)]
    words = f"{', '.join(others)} and {last} are in place" if others else f"{last} is in place"
    return Condition(reasons.NETWORK_READY, True, "InPlace", words)


def _is_wanted(kind: Kind, verdict: Verdict) -> bool:
    """Where what is wanted could not be told: what everybody has, and, as far as the class is known, what all of it have."""
    if verdict.desired is not None:
        return getattr(verdict.desired, kind.field) is not None
    cls = verdict.world.cls
    return kind is Kind.SERVICE or (kind is Kind.POLICY and cls is not None and cls.policy is PolicyMode.MANAGED)


def _why_not(verdict: Verdict) -> Finding | None:
    world, desired, uid = verdict.world, verdict.desired, verdict.world.storage.meta.uid
    for kind in (Kind.POLICY, Kind.SERVICE, *EXPOSURE):
        live, what = getattr(world.children, kind.field), kind.resource.kind
        there = live is not None and is_ours(live, uid) and not is_terminating(live)
        if _is_wanted(kind, verdict) and not there:
            return Finding("Pending", f"the {what} is not there yet")
        if desired is None:
            continue
        wanted = getattr(desired, kind.field)
        if wanted is not None and child_patch(wanted, live):
            return Finding("NotAsDesired", f"the {what} was changed and not put right yet")
        if wanted is None and there:
            return Finding("NotAsDesired", f"the {what} is no longer wanted and not removed yet")
    if world.not_exposed is not None:
        return world.not_exposed
    if desired is not None and desired.route is not None and world.children.route is not None:
        return exposure.route_refused(world.children.route)
    return None


def url(world: World, cls: UserStorageClass) -> str:
    """Where the browser is reached, as things stand: from outside only once something leads in, else inside the cluster, at the
    path that the pod serves, if there is one.
    """
    children, storage = world.children, world.storage
    for child in (children.ingress, children.route):
        if child is None or not is_ours(child, storage.meta.uid) or is_terminating(child):
            continue
        at = exposure.served_place(child)
        if at is None or (child is children.route and exposure.route_refused(child) is not None):
            continue
        # What the class says of TLS: at a Gateway the listener decides, and Gateways are not ours to read.
        return f"{'http' if cls.exposure.tls_secret_name is None else 'https'}://{at.host}{at.path}"
    path = served_path(world) or expand(cls.browser.base_path, storage)
    return f"http://{names.child_name(storage.slug)}.{storage.meta.namespace}.svc{path}"
