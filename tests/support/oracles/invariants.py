"""The invariants of the fault matrix, as far as a history and a record of requests show them."""

import json
from collections.abc import Callable, Collection, Iterable

from support.faultproxy import Request
from support.oracles.history import Change, History, Objects
from userstorage_operator.api.resources import USER_STORAGES, Kind
from userstorage_operator.api.unstructured import Unstructured

_OVER = ("Succeeded", "Failed")


def violations(history: History, requests: Iterable[Request] = (), *, deletes_claims: bool = False) -> list[str]:
    """Return the violations of every invariant that holds in each workload. `deletes_claims`: the workload asks for that."""
    found = [
        *two_live_pods(history),
        *children_of_the_gone(history),
        *pods_without_policy(history),
        *deletions_out_of_order(history),
        *idle_status_writes(requests),
        *deletes_without_uid(requests),
    ]
    if not deletes_claims:
        found += [*lost_claims(history), *claim_deletions(requests)]
    return found


def two_live_pods(history: History) -> list[str]:
    """Check I4: at no moment has a UserStorage two pods that neither terminate nor are over."""
    found: list[str] = []
    for change, objects in history.states():
        if change.resource == Kind.POD.resource.plural and change.owner is not None:
            live = [pod for pod in _pods(objects, change.owner) if _lives(pod)]
            if len(live) > 1:
                found.append(f"revision {change.revision}: {len(live)} live pods of one UserStorage, {_names(live)}")
    return found


def children_of_the_gone(history: History) -> list[str]:
    """Check I4: no child is created for a UserStorage that is gone."""
    return _created_after(history, lambda change: change.type == "DELETED", "is gone")


def children_of_the_deleted(history: History) -> list[str]:
    """Check I4: no child is created for a UserStorage after its deletion was requested.

    Between its last look and its write, an operator cannot know; so this is for workloads in which it had time to.
    """
    return _created_after(history, lambda change: "deletionTimestamp" in change.raw["metadata"], "is being deleted")


def pods_without_policy(history: History) -> list[str]:
    """Return where a pod of a UserStorage existed, be it terminating, without a NetworkPolicy that selects it.

    This holds for users of classes that ask for a policy.
    """
    found: list[str] = []
    for change, objects in history.states():
        if change.initial or change.resource not in (Kind.POD.resource.plural, Kind.NETWORK_POLICY.resource.plural):
            continue  # what existed before is complete only with the last of it
        selectors = [
            raw["spec"]["podSelector"].get("matchLabels", {})
            for (resource, _), raw in objects.items()
            if resource == Kind.NETWORK_POLICY.resource.plural
        ]
        for (resource, name), raw in objects.items():
            if resource != Kind.POD.resource.plural or not _is_owned(raw) or raw.get("status", {}).get("phase") in _OVER:
                continue
            labels = raw["metadata"].get("labels", {}).items()
            if not any(selector.items() <= labels for selector in selectors):
                found.append(f"revision {change.revision} ({change.type} {change.resource}): no policy selects pod {name}")
    return found


def deletions_out_of_order(history: History) -> list[str]:
    """Check I6: when a UserStorage is gone, none of its pods exists. One whose finalizer another client has removed is no violation."""
    found: list[str] = []
    for change, objects in history.states():
        if change.resource == USER_STORAGES.plural and change.type == "DELETED":
            left = [pod for pod in _pods(objects, change.uid) if _lives(pod)]
            if left:
                found.append(f"revision {change.revision}: {change.name} is gone, and its pod {_names(left)} lives")
    return found


def lost_claims(history: History) -> list[str]:
    """Check I3: no claim is deleted, and none changes its uid."""
    return [
        f"revision {change.revision}: claim {change.name} is deleted"
        for change in history.in_order()
        if change.resource == Kind.PVC.resource.plural
        and (change.type == "DELETED" or "deletionTimestamp" in change.raw["metadata"])
    ]


def claim_deletions(requests: Iterable[Request]) -> list[str]:
    """Check I3: no deletion of a claim is requested."""
    return [
        f"{request.what} {request.name}"
        for request in requests
        if request.verb.startswith("delete") and request.resource == Kind.PVC.resource.plural
    ]


def deletes_without_uid(requests: Iterable[Request]) -> list[str]:
    """Check I2: every deletion names the uid that it means, and none means a collection."""
    return [
        f"{request.what} {request.name}: no uid"
        for request in requests
        if request.verb == "deletecollection"
        or (request.verb == "delete" and not json.loads(request.body or b"{}").get("preconditions", {}).get("uid"))
    ]


def writes_to(requests: Iterable[Request], names: Collection[str]) -> list[str]:
    """Check I2: what was written to objects that are none of the operator's. A creation that their name refuses is no violation."""
    return [
        f"{request.what} {request.name}"
        for request in requests
        if request.is_write and request.name in names and not (request.verb == "create" and request.code == 409)
    ]


def idle_status_writes(requests: Iterable[Request]) -> list[str]:
    """Check I7: no status write leaves the object as it was, which its resourceVersion shows.

    A write that repeats one whose answer was lost is no violation: an operator cannot know.
    """
    found: list[str] = []
    last: dict[str, str] = {}
    for request in requests:
        if not request.uid or request.resource != USER_STORAGES.plural:
            continue
        if request.subresource == "status" and last.get(request.uid) == request.version:
            found.append(f"{request.what} {request.name}: changed nothing at revision {request.version}")
        last[request.uid] = request.version if not request.lost else ""
    return found


def longest_untrue_ready(history: History) -> float:
    """Check I8: return for how many seconds at most a status said Ready=True of a pod that was not. Infinite if it still does."""
    worst, since = 0.0, dict[str, float]()
    for change, objects in history.states():
        for (resource, _), raw in objects.items():
            if resource != USER_STORAGES.plural:
                continue
            uid = raw["metadata"]["uid"]
            untrue = _condition(raw, "Ready") == "True" and not any(
                _condition(pod, "Ready") == "True" for pod in _pods(objects, uid)
            )
            if untrue:
                since.setdefault(uid, change.at)
            elif uid in since:
                worst = max(worst, change.at - since.pop(uid))
        existing = {raw["metadata"]["uid"] for (resource, _), raw in objects.items() if resource == USER_STORAGES.plural}
        since = {uid: at for uid, at in since.items() if uid in existing}
    return float("inf") if since else worst


def tries_per_minute(requests: Iterable[Request]) -> float:
    """Check I7: return the highest number of writes to one object within any 60 s of the record."""
    by_object: dict[tuple[str, str, str], list[float]] = {}
    for request in requests:
        if request.is_write:
            by_object.setdefault((request.namespace, request.resource, request.name), []).append(request.at)
    return max((sum(at <= other < at + 60 for other in moments) for moments in by_object.values() for at in moments), default=0)


def _created_after(history: History, is_end: Callable[[Change], bool], state: str) -> list[str]:
    found: list[str] = []
    ended: dict[str, str] = {}
    for change, _ in history.states():
        if change.resource == USER_STORAGES.plural and is_end(change):
            ended[change.uid] = change.name
        elif change.type == "ADDED" and not change.initial and change.owner in ended:
            found.append(f"revision {change.revision}: {change.resource} {change.name} is created for one that {state}")
    return found


def _pods(objects: Objects, owner: str) -> list[Unstructured]:
    plural = Kind.POD.resource.plural
    return [raw for (resource, _), raw in objects.items() if resource == plural and _is_owned(raw, owner)]


def _is_owned(raw: Unstructured, owner: str | None = None) -> bool:
    return any(
        reference.get("controller") and reference["kind"] == USER_STORAGES.kind and owner in (None, reference["uid"])
        for reference in raw["metadata"].get("ownerReferences", ())
    )


def _lives(pod: Unstructured) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod.get("status", {}).get("phase") not in _OVER


def _condition(raw: Unstructured, condition_type: str) -> str:
    for entry in raw.get("status", {}).get("conditions", ()):
        if entry["type"] == condition_type:
            return str(entry["status"])
    return "Unknown"


def _names(objects: Iterable[Unstructured]) -> str:
    return ", ".join(raw["metadata"]["name"] for raw in objects)
