"""Whether the user can be reached as the class wants: the condition NetworkReady, and the URL."""

from userstorage_operator.domain import exposure, names, reasons
from userstorage_operator.domain.conditions import Condition
from userstorage_operator.domain.desired import Desired
from userstorage_operator.domain.drift import child_patch
from userstorage_operator.domain.paths import expand
from userstorage_operator.domain.podstate import Finding
from userstorage_operator.domain.resources import EXPOSURE, Kind
from userstorage_operator.domain.verdict import Verdict
from userstorage_operator.domain.world import World, is_ours, is_terminating


def network_ready(verdict: Verdict) -> Condition:
    """Whether Service, NetworkPolicy, and what leads in from outside, are in place. What was planned but failed is not."""
    finding = _why_not(verdict.world, verdict.desired)
    if finding is not None:
        return Condition(reasons.NETWORK_READY, False, finding.reason, finding.message)
    *others, last = ["Service", "NetworkPolicy", *_ways_in(verdict.desired)]
    return Condition(reasons.NETWORK_READY, True, "InPlace", f"{', '.join(others)} and {last} are in place")


def _ways_in(desired: Desired | None) -> list[str]:
    return [kind.resource.kind for kind in EXPOSURE if desired is not None and getattr(desired, kind.field) is not None]


def _why_not(world: World, desired: Desired | None) -> Finding | None:
    uid = world.storage.meta.uid
    for kind in (Kind.POLICY, Kind.SERVICE, *EXPOSURE):
        live, what = getattr(world.children, kind.field), kind.resource.kind
        there = live is not None and is_ours(live, uid) and not is_terminating(live)
        if desired is None:  # what is wanted could not be told; the two that everybody has must be there
            if kind not in EXPOSURE and not there:
                return Finding("Pending", f"the {what} is not there yet")
            continue
        wanted = getattr(desired, kind.field)
        if wanted is not None and not there:
            return Finding("Pending", f"the {what} is not there yet")
        if wanted is not None and child_patch(wanted, live):
            return Finding("NotAsDesired", f"the {what} was changed and not put right yet")
        if wanted is None and there:
            return Finding("NotAsDesired", f"the {what} is no longer wanted and not removed yet")
    if world.not_exposed is not None:
        return world.not_exposed
    if desired is not None and desired.route is not None and world.children.route is not None:
        return exposure.route_refused(world.children.route)
    return None


def url(world: World, base_path: str) -> str:
    """Where the browser is reached, as things stand: from outside only once something leads in, else inside the cluster."""
    children, storage = world.children, world.storage
    for child in (children.ingress, children.route):
        if child is None or not is_ours(child, storage.meta.uid) or is_terminating(child):
            continue
        at = exposure.served_place(child)
        if at is None or (child is children.route and exposure.route_refused(child) is not None):
            continue
        return f"{'https' if _ends_tls(world) else 'http'}://{at.host}{at.path}"
    return f"http://{names.child_name(storage.slug)}.{storage.meta.namespace}.svc{expand(base_path, storage)}"


def _ends_tls(world: World) -> bool:
    """What the class says: at a Gateway the listener decides, and Gateways are not ours to read."""
    return world.cls is not None and world.cls.exposure.tls_secret_name is not None
