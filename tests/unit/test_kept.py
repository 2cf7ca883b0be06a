"""What the caches do not keep of an object is never read, and no tenant can make them keep much of one."""

import json
import random
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.builders import CREATED, NOW, class_object, desired_of, settled_snapshot, storage_object
from support.served import managed_by, served, served_claim, served_pod
from userstorage_operator.api import names
from userstorage_operator.api.errors import InvalidSpec
from userstorage_operator.api.resources import Kind
from userstorage_operator.api.unstructured import Unstructured
from userstorage_operator.api.userstorage import UserStorage
from userstorage_operator.api.userstorageclass import UserStorageClass
from userstorage_operator.informers.caches import Caches
from userstorage_operator.observed.claim_usage import files_use, mounted_claims, mounts_of
from userstorage_operator.observed.contest import last_manager
from userstorage_operator.observed.kept import SPEC_MAX, keep, shared_claim
from userstorage_operator.observed.snapshot import Children, Snapshot
from userstorage_operator.plan.planner import plan
from userstorage_operator.plan.steps import Patch, Plan
from userstorage_operator.status.outcome import Outcome
from userstorage_operator.status.report import report
from userstorage_operator.status.requeue import requeue_after
from userstorage_operator.status.rollout import member_state

NETWORKS: dict[str, Unstructured] = {
    "inside": {},
    "Ingress": {"expose": "Ingress", "hostTemplate": "${slug}.example.org", "annotations": {"example.org/a": "${slug}"}},
    "Gateway": {"expose": "Gateway", "hostTemplate": "${slug}.example.org", "gateway": {"name": "public"}},
}
CLASSES = [
    UserStorageClass.parse(class_object(network=network, podMetadata={"labels": {"team": "a"}, "annotations": {"note": "b"}}))
    for network in NETWORKS.values()
]
SPECS: list[Unstructured] = [
    {},
    {"replicas": 0},
    {"storage": {"size": "20Gi", "reclaimPolicy": "Delete"}},
    {"storage": {"claimName": "shared", "subPath": "home/${slug}"}},
]
TEXTS = [
    "",
    "x",
    "a",
    "True",
    "False",
    "Failed",
    "Bound",
    "Unschedulable",
    "CrashLoopBackOff",
    "20Gi",
    "rival",
    CREATED,
    "10",
    "/",
]


def whole_children(raw: Unstructured, cls: UserStorageClass) -> Children:
    """Return the children of a settled UserStorage as the API server has them."""
    desired, claim = desired_of(raw, cls), desired_of(storage_object(raw["spec"]["userID"])).pvc
    assert claim is not None
    other = {kind: getattr(desired, kind.field) for kind in (Kind.NETWORK_POLICY, Kind.SERVICE, Kind.INGRESS, Kind.HTTP_ROUTE)}
    found = {kind.field: served(child) for kind, child in other.items() if child is not None}
    return Children(pod=served_pod(desired.pod), pvc=served_claim(claim), **found)


def kept_children(children: Children) -> Children:
    found = {kind: getattr(children, kind.field) for kind in Kind}
    return Children(**{kind.field: keep(kind.resource)(child) for kind, child in found.items() if child is not None})


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every field and list item."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in entries for path in ((*at, key), *paths(inner, (*at, key)))]


IDENTITY = {"name", "namespace", "uid", "resourceVersion", "kind", "apiVersion", "manager"}


def mutate(children: Children, choose: random.Random) -> Children:
    """Return the children after another client has changed, removed or added a field."""
    present = [kind for kind in Kind if getattr(children, kind.field) is not None]
    kind = choose.choice(present)
    child = deepcopy(getattr(children, kind.field))
    path = choose.choice([path for path in paths(child) if len(path) > 1 and path[-1] not in IDENTITY])
    *parents, last = path
    place = child
    for key in parents:
        place = place[key]
    match choose.randrange(4):
        case 0 if "fieldsV1" not in path or len(place) > 1:  # a field without fields is owned whole
            del place[last]
        case 1:
            place[last] = choose.choice(TEXTS) if isinstance(place[last], str | None) else deepcopy(place[last])
        case 2 if isinstance(place[last], dict):
            place[last][choose.choice(["team", "note", "app", "message", "deletionTimestamp", "x"])] = choose.choice(TEXTS)
        case _ if isinstance(place[last], list) and place[last]:
            place[last].append(deepcopy(choose.choice(place[last])))
        case _:
            changed = {
                "metadata": {choose.choice(["labels", "annotations"]): {choose.choice(["team", "note", "app"]): "rival"}}
            }
            for field, texts in changed["metadata"].items():
                child["metadata"][field] = (child["metadata"].get(field) or {}) | texts
            child["metadata"].setdefault("managedFields", []).append(managed_by("rival", changed))
    forget_removed(child["metadata"])
    return replace(children, **{kind.field: child})


def forget_removed(meta: Unstructured) -> None:
    """Take from managedFields the labels and annotations that are gone, as the API server does."""
    for entry in meta.get("managedFields") or ():
        owned = entry.get("fieldsV1", {}).get("f:metadata", {})
        for field in ("labels", "annotations"):
            if fields := owned.get(f"f:{field}"):
                owned[f"f:{field}"] = {".": {}} | {key: {} for key in fields if key[2:] in (meta.get(field) or {})}


def consequences(snapshot: Snapshot) -> tuple[Any, ...]:
    """Return everything that follows from the children."""
    planned: Plan = plan(snapshot, NOW)
    outcome = Outcome(snapshot, planned.desired, planned, None, NOW)
    managers = [
        last_manager(getattr(snapshot.children, step.kind.field), step.patch)
        for step in planned.steps
        if isinstance(step, Patch)
    ]
    pod = snapshot.children.pod
    use = (files_use(pod), list(mounted_claims(pod)), mounts_of("user-storage-alice", [pod])) if pod is not None else None
    return (
        (planned.steps, planned.hold, planned.requeue_at, str(planned.spec_error)),
        (report(outcome, snapshot.status), requeue_after(outcome, None, outcome.now), member_state(outcome)),
        (managers, use),
    )


@settings(max_examples=500)
@given(
    st.sampled_from(SPECS),
    st.sampled_from(CLASSES),
    st.sampled_from(CLASSES),
    st.sampled_from([None, "browser:2"]),
    st.booleans(),
    st.integers(0, 6),
    st.integers(0, 1 << 32),
)
def test_plans_and_reports_of_kept_and_of_whole_objects_are_equal(
    spec: Unstructured,
    built_from: UserStorageClass,
    cls: UserStorageClass,
    image: str | None,
    deleting: bool,
    changes: int,
    seed: int,
) -> None:
    if image is not None:  # the pod is outdated, and access to it stays as it is
        cls = replace(cls, browser=replace(cls.browser, image=image))
    choose = random.Random(seed)  # noqa: S311  # a number of Hypothesis's own, so that it can be run again
    raw = storage_object(**spec, meta={"deletionTimestamp": CREATED} if deleting else {})
    snapshot = settled_snapshot(storage_object())
    children = whole_children(raw, built_from)
    for _ in range(changes):
        children = mutate(children, choose)
    storage, may_replace = UserStorage.parse(raw), choose.random() < 0.5
    whole = replace(snapshot, storage=storage, cls=cls, children=children, may_replace=may_replace)
    try:
        expected = consequences(whole)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, InvalidSpec):
        return  # no API server would store such an object
    assert consequences(replace(whole, children=kept_children(children))) == expected


def test_plans_compare_no_field_of_a_spec_that_is_not_kept() -> None:
    for cls in CLASSES:
        desired = desired_of(storage_object(), cls)
        for kind in Kind:
            child = getattr(desired, kind.field)
            if child is not None and kind is not Kind.POD:
                kept = keep(kind.resource)(served(child))
                assert kept is not None
                assert kept["spec"].keys() >= {field for field, value in child["spec"].items() if value is not None}


BIG = "x" * 250_000
HOSTILE: list[Unstructured] = [
    {"metadata": {"annotations": {"note": BIG}}},
    {"metadata": {"annotations": {f"note-{number}": "x" * 200 for number in range(1000)}}},
    {"metadata": {"annotations": {names.ANNOTATION_USER_ID: BIG, f"{names.GROUP}/x": BIG}}},
    {"metadata": {"labels": {f"label-{number}": "x" * 63 for number in range(4000)}}},
    {"metadata": {"finalizers": [f"example.org/{number:0250}" for number in range(1000)]}},
    {"metadata": {"ownerReferences": [{"kind": BIG, "name": BIG, "uid": BIG, "apiVersion": BIG}] * 4}},
    {"metadata": {"managedFields": [managed_by(BIG, {"metadata": {"labels": {"app": ""}}, "spec": {"x": ""}})] * 4}},
    {"spec": dict.fromkeys(("type", "nodeName", "storageClassName", "volumeName", "ingressClassName"), BIG)},
    {"spec": {field: {BIG: BIG} for field in ("selector", "podSelector", "resources", "affinity", "defaultBackend")}},
    {"spec": {field: [{"from": BIG}] * 4 for field in ("rules", "ingress", "ports", "tls", "parentRefs", "schedulingGates")}},
    {"spec": {"volumes": [{"name": f"{number}", "persistentVolumeClaim": {"claimName": "x" * 253}} for number in range(4000)]}},
    {"spec": {"containers": [{"name": names.CONTAINER, "image": BIG, "args": [BIG]}] * 4}},
    {"status": {"message": BIG, "conditions": [{"type": BIG, "status": "x", "message": BIG}] * 4, "parents": []}},
    {"status": {"containerStatuses": [{"name": "x", "state": {"waiting": {"reason": BIG, "message": BIG}}}] * 4}},
]


def size_of(cache_of: Kind, child: Unstructured, part: Unstructured) -> int:
    """Return the bytes that are kept of the child after another client has written `part` of it."""
    changed = {field: child.get(field, {}) | part.get(field, {}) for field in ("metadata", "spec", "status")}
    kept = keep(cache_of.resource)(changed)
    return len(json.dumps(kept)) if kept is not None else 0


@pytest.mark.parametrize("kind", Kind)
def test_hostile_objects_are_cut(kind: Kind) -> None:
    child = {"metadata": {"namespace": "users", "name": "user-storage-alice", "uid": "1", "resourceVersion": "5"}}
    for part in HOSTILE:
        assert len(json.dumps(part)) > 200_000
        assert size_of(kind, child, part) < 4 * SPEC_MAX, part.keys()
        other = child | {"metadata": child["metadata"] | {"name": "other"}}
        assert size_of(kind, other, part) <= (SPEC_MAX if kind is Kind.POD else 0)


def test_hostile_claims_that_users_may_name_are_cut() -> None:
    claim = {"metadata": {"namespace": "users", "name": "shared", "uid": "1", "resourceVersion": "5"}}
    for part in HOSTILE:
        kept = shared_claim({field: claim.get(field, {}) | part.get(field, {}) for field in ("metadata", "spec", "status")})
        assert len(json.dumps(kept)) < 4096


def test_annotations_of_ours_stay_when_another_client_fills_the_object() -> None:
    pod = served_pod(desired_of(storage_object(), CLASSES[0]).pod)
    before = pod["metadata"]["annotations"]
    filled = {f"a-{number}": "x" * 1000 for number in range(250)} | before
    kept = keep(Kind.POD.resource)(pod | {"metadata": pod["metadata"] | {"annotations": filled}})
    assert kept is not None
    ours = {key for key in before if key.startswith(names.GROUP)} | {"note"}
    assert kept["metadata"]["annotations"].items() >= {(key, before[key]) for key in ours}


def test_events_of_strangers_under_our_label_do_not_grow_the_caches() -> None:
    requeued: list[Any] = []
    caches = Caches(requeued.append, lambda _: None)
    for kind in Kind:
        for number in range(100):
            meta = {"namespace": "tenant", "name": f"n{number}", "uid": f"{kind}{number}", "resourceVersion": f"{number + 1}"}
            labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY}
            for event in ("ADDED", "DELETED"):
                obj = {"metadata": meta | {"labels": labels, "annotations": {"a": BIG}}, "spec": {"podSelector": {}}}
                caches.cache(kind.resource).event(event, obj)
                if kind is not Kind.POD:
                    assert len(caches.cache(kind.resource)) == 0
    assert requeued == []


def test_pod_of_another_name_still_counts_for_the_volume_that_it_mounts() -> None:
    caches = Caches(lambda _: None, lambda _: None)
    pod = served_pod(desired_of(storage_object()).pod)
    strange = pod | {"metadata": pod["metadata"] | {"name": "job", "managedFields": [], "annotations": {"a": BIG}}}
    caches.cache(Kind.POD.resource).event("ADDED", strange)
    [found] = caches.pods_on("users", "user-storage-alice")
    assert mounts_of("user-storage-alice", [found]) == mounts_of("user-storage-alice", [strange])
    assert len(json.dumps(found)) < 1024


@pytest.mark.parametrize(
    ("network", "field"),
    [
        (NETWORKS["Ingress"] | {"annotations": {f"example.org/{number}": "x" * 4096 for number in range(4)}}, "annotations"),
        ({"allowedFrom": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/16"] * 1000}}]}, "allowedFrom"),
    ],
)
def test_class_with_children_that_would_be_cut_is_refused(network: Unstructured, field: str) -> None:
    with pytest.raises(InvalidSpec, match=f"class spec.network.{field}: "):
        desired_of(storage_object(), UserStorageClass.parse(class_object(network=network)))
